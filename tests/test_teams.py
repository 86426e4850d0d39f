"""Threads that do one job together (csrc/common/parallel.h), under ThreadSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from builds import under_thread_sanitizer

CSRC = Path(__file__).resolve().parents[1] / "csrc"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teams") / "team_races"
    sources = [CSRC / "common" / name for name in ("tests/team_races.cpp", "parallel.cpp")]
    command = [
        os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
        "-fopenmp", "-fsanitize=thread", f"-I{CSRC}", "-DGENFAST_ISA=baseline",
        *sources, CSRC / "common" / "openmp_on_threads.cpp", "-o", path,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize(("kind", "reported"), [("right", False), ("faulty", True)])
def test_members_that_meet_do_not_race(program: Path, kind: str, reported: bool) -> None:
    ended = subprocess.run(
        under_thread_sanitizer([program, kind]), capture_output=True, text=True, timeout=60
    )
    assert ("data race" in ended.stderr) == reported
    assert (ended.returncode == 0) != reported, ended.stdout + ended.stderr
