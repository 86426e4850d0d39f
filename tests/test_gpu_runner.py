"""The stage runner of `make gpu`, and what it says of machines that cannot run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[Any, Any, Any]]:
    """packaging/ holds scripts that import each other by bare name; it is no package."""
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        import gpu
        import gpu_machine
        import stages

        yield stages, gpu_machine, gpu
    finally:
        sys.path.remove(str(ROOT / "packaging"))


@pytest.fixture
def stages(scripts: tuple[Any, Any, Any]) -> Any:
    return scripts[0]


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


# ---- the runner ----------------------------------------------------------------------------------


class Counted:
    """A stage that counts its runs and fails while `fails` is set."""

    def __init__(self, stages: Any, fails: bool = False) -> None:
        self.stages, self.fails, self.runs = stages, fails, 0

    def __call__(self, clock: Any) -> dict[str, int]:
        self.runs += 1
        if self.fails:
            raise self.stages.StageError("it broke", {"so far": 3})
        return {"run": self.runs}


def run(stages: Any, folder: Path, *listed: Any, key: str = "tree", seconds: float = 60.0) -> Any:
    return stages.Runner(folder, key, seconds, lambda line: None).run(list(listed))


def test_done_stages_are_skipped_and_failed_ones_run_again(stages: Any, tmp_path: Path) -> None:
    good, bad, every = Counted(stages), Counted(stages, fails=True), Counted(stages)
    listed = (
        stages.Stage("good", good, 9),
        stages.Stage("bad", bad, 9),
        stages.Stage("every", every, 9, always=True),
    )
    summary = run(stages, tmp_path, *listed)
    assert not summary["passed"]
    assert summary["stages"]["bad"]["error"] == "it broke"
    assert summary["stages"]["bad"]["facts"] == {"so far": 3}
    bad.fails = False
    summary = run(stages, tmp_path, *listed)
    assert summary["passed"]
    assert (good.runs, bad.runs, every.runs) == (1, 2, 2)
    assert summary["stages"]["good"]["facts"] == {"run": 1}
    assert summary == json.loads((tmp_path / stages.SUMMARY).read_text())


def test_a_changed_tree_starts_afresh(stages: Any, tmp_path: Path) -> None:
    good = Counted(stages)
    for key in ("one tree", "another", "another"):
        run(stages, tmp_path, stages.Stage("good", good, 9), key=key)
    assert good.runs == 2


def test_a_broken_state_file_is_no_obstacle(stages: Any, tmp_path: Path) -> None:
    (tmp_path / stages.SUMMARY).write_text('{"key": "tree", "stages": {"go')
    assert run(stages, tmp_path, stages.Stage("good", Counted(stages), 9))["passed"]


def test_results_so_far_survive_a_killed_run(stages: Any, tmp_path: Path) -> None:
    good = Counted(stages)

    def killed(clock: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stages, tmp_path, stages.Stage("good", good, 9), stages.Stage("next", killed, 9))
    assert run(stages, tmp_path, stages.Stage("good", good, 9))["passed"]
    assert good.runs == 1


def test_a_stage_over_its_time_is_killed_with_its_children(stages: Any, tmp_path: Path) -> None:
    child = tmp_path / "child"
    slow = (
        "import subprocess, sys, time; print('began', flush=True); "
        "p = subprocess.Popen(['sleep', '60']); "
        f"open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    after = Counted(stages)
    started = time.monotonic()
    summary = run(
        stages,
        tmp_path,
        stages.Stage("slow", lambda clock: {"out": clock.run(command(slow))}, 3),
        stages.Stage("after", after, 9),
    )
    assert time.monotonic() - started < 30
    assert summary["stages"]["slow"]["status"] == stages.TIMED_OUT
    assert "began" in (tmp_path / "slow.log").read_text()  # partial output is kept
    assert after.runs == 1
    state = Path(f"/proc/{child.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_no_stage_begins_without_time(stages: Any, tmp_path: Path) -> None:
    late = Counted(stages)
    summary = run(stages, tmp_path, stages.Stage("late", late, 9), seconds=1.0)
    assert (summary["stages"]["late"]["status"], late.runs) == (stages.NOT_RUN, 0)
    assert "run it again" in summary["stages"]["late"]["error"]
    assert not summary["passed"]


def test_what_needs_a_failed_stage_is_not_run(stages: Any, tmp_path: Path) -> None:
    bad, after = Counted(stages, fails=True), Counted(stages)
    listed = stages.Stage("build", bad, 9), stages.Stage("test", after, 9, ("build",))
    summary = run(stages, tmp_path, *listed)
    assert after.runs == 0
    assert summary["stages"]["test"]["error"].endswith("did not succeed: build")


def test_a_failing_command_says_its_code_and_output(stages: Any, tmp_path: Path) -> None:
    def fails(clock: Any) -> dict[str, Any]:
        first = clock.run(command("print('first')"))
        assert first == "first\n"
        return {
            "out": clock.run(
                command("import os; print(os.environ['A']); exit(7)"), environment={"A": "b1"}
            )
        }

    error = run(stages, tmp_path, stages.Stage("fails", fails, 30))["stages"]["fails"]["error"]
    assert "ended with code 7" in error
    assert error.endswith("b1\n")
    missing = stages.Stage("missing", lambda clock: {"out": clock.run(["no-such-program"])}, 9)
    assert "no-such-program" in run(stages, tmp_path, missing)["stages"]["missing"]["error"]


def test_the_key_follows_sources_alone(stages: Any, tmp_path: Path) -> None:
    (tmp_path / "src" / "results").mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_text("1")
    before = stages.tree_key(tmp_path, ["src"], ["setup.py"])
    for name in ("b.so", "a.pyc", "results/gpu.json"):
        (tmp_path / "src" / name).write_text("built")
    assert stages.tree_key(tmp_path, ["src"], ["setup.py"]) == before
    (tmp_path / "src" / "a.py").write_text("2")
    assert stages.tree_key(tmp_path, ["src"], ["setup.py"]) != before


# ---- the machine ---------------------------------------------------------------------------------

FINE = {"missing": [], "torch": "2.13.0", "torch_cuda": "13.0", "gpu": "NVIDIA H200"}


def test_a_machine_that_lacks_nothing(scripts: tuple[Any, Any, Any]) -> None:
    assert scripts[1].problems(FINE, which=lambda name: name, nvcc=(13, 0), driver="580.65.06") == []


@pytest.mark.parametrize(
    ("facts", "nvcc", "driver", "says"),
    [
        ({"missing": ["PIL", "pybind11"]}, (13, 0), "580.1", 'pip install "pillow" "pybind11>=2.13"'),
        (
            {"gpu": None, "torch_cuda": None},
            (13, 0),
            "580.1",
            "sees no GPU; it is built for the CPU alone",
        ),
        ({"gpu": None}, (13, 0), "580.1", "sees no GPU; it is built for CUDA 13.0"),
        ({}, None, "580.1", "no nvcc"),
        ({}, (13, 0), None, "no NVIDIA driver"),
        ({}, (13, 0), "570.12", "the driver is 570.12, nvcc needs 580 or newer for CUDA 13.0"),
        ({"broken": ["ImportError: libcudart"]}, (13, 0), "580.1", "torch does not load: ImportError"),
    ],
)
def test_what_is_missing_is_named(
    scripts: tuple[Any, Any, Any], facts: Any, nvcc: Any, driver: Any, says: str
) -> None:
    found = scripts[1].problems(FINE | facts, which=lambda name: name, nvcc=nvcc, driver=driver)
    assert len(found) == 1
    assert says in found[0]


def test_everything_missing_is_named_at_once(scripts: tuple[Any, Any, Any]) -> None:
    nothing = {"missing": list(scripts[1].PYTHON_PACKAGES)}
    found = "\n".join(scripts[1].problems(nothing, which=lambda name: None, nvcc=None, driver=None))
    for word in ("torch", "hypothesis", "scikit-learn", "cmake", "ninja", "g++", "driver", "nvcc"):
        assert word in found


def test_without_a_gpu_make_gpu_fails_and_says_why(tmp_path: Path) -> None:
    """The script as it is run, on a machine made to have no GPU, no nvcc and no compiler."""
    script = ROOT / "packaging" / "gpu.py"
    copy = tmp_path / "tree"
    for name in ("packaging", "csrc", "genfast", "tests", "benchmarks"):
        (copy / name).mkdir(parents=True)
    for name in ("CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (copy / name).touch()
    for path in script.parent.glob("*.py"):
        (copy / "packaging" / path.name).write_text(path.read_text())
    done = subprocess.run(
        [sys.executable, copy / "packaging" / "gpu.py", "--out", tmp_path / "out"],
        env={
            **os.environ,
            "PATH": "/nowhere",
            "CUDA_HOME": "/nowhere",
            "CUDACXX": "",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    for says in ("make gpu: FAILED", "no C++ compiler", "no NVIDIA driver", "sees no GPU", "no nvcc"):
        assert says in done.stdout, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert not summary["passed"]
    assert summary["stages"]["environment"]["status"] == "failed"
    assert summary["stages"]["benchmarks"]["status"] == "not run"


def test_what_a_stage_left_must_still_be_there(stages: Any, tmp_path: Path) -> None:
    """A summary taken along to a fresh machine does not stand for a build."""
    built, there = Counted(stages), [True]
    stage = stages.Stage("build", built, 9, stands=lambda: there[0])
    run(stages, tmp_path, stage)
    run(stages, tmp_path, stage)
    assert built.runs == 1
    there[0] = False
    run(stages, tmp_path, stage)
    assert built.runs == 2


def test_budgets_fit_the_whole(scripts: tuple[Any, Any, Any]) -> None:
    listed = scripts[2].stages("key")
    names = [stage.name for stage in listed]
    for place, stage in enumerate(listed):
        assert set(stage.needs) <= set(names[:place])
        assert stage.seconds < scripts[2].SECONDS < 600
