"""The stages of `make gpu`, their commands recorded instead of run: every word of them is checked."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from test_gpu_runner import ROOT, scripts  # noqa: F401


class Recorded:
    """A clock whose commands are recorded, not run; programs answer as those of a GPU would."""

    def __init__(self, gpu: Any, folder: Path, answers: dict[str, str]) -> None:
        machine = {
            "gpu": "NVIDIA Test", "capability": [9, 0], "nvcc_path": "/cuda/bin/nvcc", "cpus": 16,
            "xdist": True, "compute_sanitizer": "/cuda/bin/compute-sanitizer",
        }  # fmt: skip
        self.results = {"environment": {"facts": machine}}
        self.log, self.left, self.answers = folder / "a.log", 60.0, answers
        self.commands: list[list[str]] = []

    def run(self, command: Any, *, cwd: Path | None = None, environment: Any = None) -> str:
        words = [str(word) for word in command]
        self.commands.append(words)
        answer = next((a for part, a in self.answers.items() if part in " ".join(words)), "")
        self.log.write_text(answer)
        return answer


@pytest.fixture
def gpu(
    scripts: tuple[Any, Any, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The script with everything it writes under tmp_path."""
    module = scripts[2]
    monkeypatch.setattr(module, "WORK", tmp_path)
    monkeypatch.setattr(module, "CONSTANTS", tmp_path / "constants.json")
    monkeypatch.setattr(module, "RESULTS", module.ROOT / "build" / "results-of-a-test")
    return module


def test_the_fragment_stage_builds_and_reads_the_checks(gpu: Any, tmp_path: Path) -> None:
    line = '{"check": "ldmatrix", "error": 0, "tolerance": 0, "passed": true}\n'
    clock = Recorded(gpu, tmp_path, {str(tmp_path / "fragments"): line})
    assert gpu.fragments(clock)["checks"][0]["check"] == "ldmatrix"
    build, run_it = clock.commands
    assert build[0] == "/cuda/bin/nvcc"
    assert "-gencode=arch=compute_90a,code=sm_90a" in build
    assert all(Path(word).is_file() for word in build if word.endswith(".cu"))
    assert run_it == [str(tmp_path / "fragments")]


def test_the_constants_are_kept_for_the_benchmarks(gpu: Any, tmp_path: Path) -> None:
    line = '{"constant": "copy", "value": 4.3, "unit": "TB/s"}\n'
    clock = Recorded(gpu, tmp_path, {str(tmp_path / "constants"): line})
    assert gpu.constants(clock)["constants"][0]["value"] == 4.3
    assert json.loads(gpu.CONSTANTS.read_text()) == json.loads(line)
    assert all(Path(word).is_file() for word in clock.commands[0] if word.endswith(".cu"))


@pytest.mark.parametrize("compiled", [False, True])
def test_the_benchmarks_get_options_that_they_know(gpu: Any, tmp_path: Path, compiled: bool) -> None:
    from genfast.benchmarks import run as bench

    assert gpu.BENCH_GOES_ON == bench.LOST
    gpu.CONSTANTS.write_text("{}")
    clock = Recorded(gpu, tmp_path, {})
    assert gpu.benchmarks("abc python", compiled, clock)["rows"] == 0
    (asked,) = clock.commands
    options = asked[asked.index("bench") + 1 :]
    options[options.index("cuda")] = "cpu"  # there is none here
    parsed = bench._parse(options)
    assert parsed.resume
    assert parsed.no_compile != compiled
    assert parsed.json == tmp_path / "bench" / "abc" / "rows.json"


def test_benchmarks_go_on_in_another_process(
    gpu: Any,
    scripts: tuple[Any, Any, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a case that broke the GPU's context; the stage has failed all the same, with its rows."""
    monkeypatch.setenv("GENFAST_COMMIT", "abc123")
    codes = [3, 3, 0]

    class Stops(Recorded):
        def run(self, command: Any, **options: Any) -> str:
            super().run(command, **options)
            code = codes[len(self.commands) - 1]
            result = {"schema": 1, "env": {}, "command": "", "rows": [1], "refused": [2]}
            (tmp_path / "bench" / "key" / "rows.json").write_text(json.dumps(result))
            if code:
                raise scripts[0].StageError(f"ended with code {code}", code=code)
            return ""

    clock = Stops(gpu, tmp_path, {})
    with pytest.raises(scripts[0].StageError, match="ended with code 3") as failed:
        gpu.benchmarks("key", False, clock)
    assert len(clock.commands) == 3
    assert failed.value.facts["rows"] == 1
    written = json.loads((gpu.ROOT / failed.value.facts["file"]).read_text())
    assert written["env"]["commit"] == "abc123"
    assert (written["rows"], written["command"]) == ([1], "genfast bench --device cuda")


def test_the_sanitizers_watch_the_small_cases(
    gpu: Any,
    scripts: tuple[Any, Any, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    class Finds(Recorded):
        def run(self, command: Any, **options: Any) -> str:
            output = super().run(command, **options)
            if self.commands[-1][-1] == "memcheck":
                raise scripts[0].StageError("the canary ended with code 9")
            return output

    clock = Finds(gpu, tmp_path, {"small_cases.py": "46 cases\n"})
    assert gpu.sanitize("memcheck", clock) == {"result": ["46 cases"]}
    watched = clock.commands[-1]
    assert watched[0] == "/cuda/bin/compute-sanitizer"
    assert Path(watched[-1]).is_file()
    quiet = Recorded(gpu, tmp_path, {"small_cases.py": "46 cases\n"})
    with pytest.raises(scripts[0].StageError, match="did not find the fault planted"):
        gpu.sanitize("memcheck", quiet)


def test_tests_run_in_parallel_and_by_marker(gpu: Any, tmp_path: Path) -> None:
    clock = Recorded(gpu, tmp_path, {"pytest": "12 passed in 3 s\n"})
    gpu.cuda_tests(clock)
    gpu.suite(clock)
    on_gpu, rest = clock.commands
    assert on_gpu[-7:] == ["-m", "cuda", "-W", "default", "-n", "8", "."]
    assert "not slow and not cuda" in rest
    left_out = [word.partition("=")[2] for word in rest if word.startswith("--ignore=")]
    assert left_out
    assert all((ROOT / "tests" / name).is_file() for name in left_out)


def test_the_suite_says_what_it_lacks(gpu: Any, scripts: tuple[Any, Any, Any], tmp_path: Path) -> None:  # noqa: F811
    clock = Recorded(gpu, tmp_path, {})
    clock.results["environment"]["facts"]["missing_for_suite"] = ["tomli-w"]
    with pytest.raises(scripts[0].StageError, match="pip install tomli-w"):
        gpu.suite(clock)
    assert not clock.commands


def test_packages_that_were_brought_along_are_found(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build comes before them, whatever else they hold."""
    monkeypatch.setenv("PYTHONPATH", "/brought/along")
    first, second, last = gpu.installed(Path("/tests"))["PYTHONPATH"].split(":")
    assert (Path(first), second, last) == (gpu.SITE, "/tests", "/brought/along")


def test_everything_is_packed_into_three_files(gpu: Any, tmp_path: Path) -> None:
    gpu.WORK.joinpath("summary.json").write_text("{}")
    gpu.WORK.joinpath("build.log").write_text("built")
    out = tmp_path / "out"
    gpu.pack(out, {"stages": {"benchmarks": {}}}, tmp_path.parent, tmp_path)
    assert sorted(path.name for path in out.iterdir()) == ["gpu.tar.gz", "summary.json"]
    with tarfile.open(out / "gpu.tar.gz") as archive:
        assert f"{tmp_path.name}/build.log" in archive.getnames()


def test_a_dry_run_builds_and_collects_and_says_what_it_did_not_run(gpu: Any, tmp_path: Path) -> None:
    clock = Recorded(gpu, tmp_path, {"collect-only": "230 tests collected\n", "import OPS": "one two\n"})
    clock.results["environment"]["facts"] |= {"dry": True, "compute_sanitizer": None}
    listed = {stage.name: stage for stage in gpu.stages("key", dry=True)}
    for name in set(listed) - {"environment", "build"}:
        assert gpu.NOT_RUN_DRY in listed[name].run(clock), name
    programs = {words[0] for words in clock.commands}
    assert not any(program.startswith(str(tmp_path)) for program in programs), "a program was run"
    assert sum(program.endswith("nvcc") for words in clock.commands for program in words[:1]) == 5
