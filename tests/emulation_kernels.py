"""Builds the test kernels of csrc/emulation/tests: a module and two programs with sanitizers."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pybind11
from builds import building, under_thread_sanitizer

SOURCE = Path(__file__).resolve().parents[1] / "csrc" / "emulation"
BUILD = SOURCE.parents[1] / "build" / "emulation"
SCHEDULES = (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))


def run_cmake(build: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Configures a build of csrc/emulation."""
    tools = Path(sys.executable).parent
    return subprocess.run(
        [
            tools / "cmake", "-S", SOURCE, "-B", build, "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}", f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", *settings,
        ],
        capture_output=True, text=True,
    )  # fmt: skip


@functools.cache
def kernels_module() -> ModuleType:
    """The module, after building what has changed of it and of the programs."""
    targets = ["--target", "_emulation_tests", "emulation_asan", "emulation_tsan"]
    command = [Path(sys.executable).parent / "cmake", "--build", BUILD, *targets]
    with building(BUILD):
        configured = run_cmake(BUILD)
        assert configured.returncode == 0, configured.stderr
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout
    (path,) = BUILD.glob("_emulation_tests*.so")
    spec = importlib.util.spec_from_file_location("_emulation_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program built with sanitizers: "asan" (and UBSan) or "tsan"."""
    command: list[str | Path] = [BUILD / f"emulation_{name}", *arguments]
    if name == "tsan":
        command = under_thread_sanitizer(command)
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
