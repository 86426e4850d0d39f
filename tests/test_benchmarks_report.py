"""Benchmark result files and the report that is made of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_benchmarks import FAST, tiny_case

from genfast.benchmarks import report
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound
from genfast.benchmarks.plot import speedup_plot
from genfast.benchmarks.results import Row, goals, read_json, result_file, write_json
from genfast.benchmarks.rows import COPY, run_case

EXAMPLE: Row = {
    "op": "double",
    "variant": "plain",
    "dtype": "float32",
    "shape": [4, 8],
    "direction": "fwd",
    "median_us": 10.0,
    "p20_us": 9.0,
    "p80_us": 12.0,
    "min_us": 8.0,
    "n": 20,
    "baseline": {"eager": 20.0, "torch.compile": 5.0, "peer": 30.0},
    "unavailable": {"other peer": "not installed"},
    "bound": {"text": "a copy", "us": 4.0, "pct": 40.0},
    "max_err": 1e-7,
    "err_budget": 2e-7,
    "reach": {"eager": 1.5, "torch.compile": 1.0},
    "reach_us": None,
    "headline": True,
}


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(result_file({}, [], [], "first"), path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(result_file({"load": float("nan")}, [], [], "second"), path)
    assert read_json(path)["command"] == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_reading_refuses_what_should_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_json(path)
    path.write_text('{"schema": 2}')
    with pytest.raises(ValueError, match="schema 2; this version reads 1"):
        read_json(path)
    row = EXAMPLE | {"max_err": 1.0}
    path.write_text(json.dumps(result_file({}, [row], [], "")))
    with pytest.raises(ValueError, match="over its error budget: double plain"):
        read_json(path)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    env = {"cpu": "a CPU", "isa": "avx2", "threads": 1, "torch": "2", "genfast": "1"}
    env |= {"commit": "abc", "date": "today"}
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    result = result_file(env, [EXAMPLE], [EXAMPLE | {"reason": "far off"}], "genfast bench")
    write_json(result, tmp_path / "benchmarks/results/cpu.json")
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    return tmp_path


def test_report_round_trip(repository: Path) -> None:
    arguments = ["--root", str(repository)]
    assert report.main([*arguments, "--check"]) == 1
    assert not (repository / "docs").exists()
    assert report.main(arguments) == 0
    assert report.main([*arguments, "--check"]) == 0
    readme = (repository / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme
    page = (repository / "docs/benchmarks.md").read_text()
    assert "2.00x of 1.5x eager: reached" in page
    assert "far off" in page
    for text in (readme, page):
        assert "0.50x of 1x torch.compile: missed by 50.0 %" in text
    assert "| double | fwd | 1 | 2.00x | 0.500x | 40.0 % | 1 of 2 |" in readme
    assert "Slower than another side: double plain, 4x8, float32, fwd: 0.50x torch.compile." in readme
    (repository / "README.md").write_text(readme.replace("2.00x", "9.00x"))
    assert report.main([*arguments, "--check"]) == 1


def test_a_gpu_comes_first(repository: Path) -> None:
    env = read_json(repository / "benchmarks/results/cpu.json")["env"]
    env |= {"gpu": "NVIDIA Z", "cuda": "13.0", "driver": "580"}
    write_json(result_file(env, [EXAMPLE], [], ""), repository / "benchmarks/results/z.json")
    readme = report.pages(repository, report.read_results(repository))[repository / "README.md"]
    assert readme.index("NVIDIA Z; torch 2") < readme.index("a CPU, avx2")


def test_report_says_what_it_lacks(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "README.md").write_text("no markers")
    assert report.main(["--root", str(repository)]) == 2
    assert "needs the lines <!-- bench:begin -->" in capsys.readouterr().err
    (repository / "benchmarks/results/cpu.json").unlink()
    assert report.main(["--root", str(repository)]) == 2
    assert "no results in" in capsys.readouterr().err


GPU_ENV = {
    "cpu": "a CPU", "isa": "avx2", "threads": 16, "torch": "2.11.0+cu130", "genfast": "1",
    "commit": "abc123", "date": "today", "gpu": "NVIDIA H200", "cuda": "13.0", "driver": "580.1",
    "constants": {"copy": 4.3125, "wgmma bf16": 801.5},
}  # fmt: skip


@pytest.fixture
def with_a_gpu(repository: Path) -> Path:
    """Made-up figures in rows that run_case has made: a win, a loss, a goal reached, one missed."""
    nbytes, bound = 8 * 4096, Bound(COPY, 1.0, "a copy")
    case = tiny_case(
        bytes={FORWARD: nbytes, TRAINING: nbytes},
        bound={FORWARD: bound, TRAINING: bound},
        reach={FORWARD: {"eager": 2.0}},
        reach_bound={FORWARD: 85.0, TRAINING: 70.0},
    )
    outcome = run_case(case, FAST)
    won, lost = outcome.rows
    won |= {"median_us": 10.0, "baseline": {"eager": 30.0, "torch.compile": 15.0}}
    won["bound"] = {"text": "a copy", "us": 9.0, "pct": 90.0}
    lost |= {"median_us": 40.0, "baseline": {"eager": 80.0, "torch.compile": 20.0}}
    lost["bound"] = {"text": "a copy", "us": 20.0, "pct": 50.0}
    result = result_file(GPU_ENV, [won, lost], [], "genfast bench --device cuda")
    write_json(result, repository / "benchmarks/results/h200.json")
    (repository / "docs").mkdir()
    marks = "\n\n".join("\n".join(pair) for pair in (report.GPU, report.CONSTANTS))
    (repository / "docs/cuda.md").write_text(f"# CUDA\n\n{marks}\n\nrest\n")
    return repository


def test_a_gpus_results_fill_every_page(with_a_gpu: Path) -> None:
    arguments = ["--root", str(with_a_gpu)]
    assert report.main(arguments) == 0
    assert report.main([*arguments, "--check"]) == 0
    readme = (with_a_gpu / "README.md").read_text()
    caption = "NVIDIA H200; torch 2.11.0+cu130, genfast 1, commit abc123, CUDA 13.0, driver 580.1; today"
    assert f"{caption}; `genfast bench --device cuda`" in readme
    assert readme.index("NVIDIA H200") < readme.index("a CPU")
    assert "| double | fwd | 1 | 3.00x | 1.50x | 90.0 % | 2 of 2 | - |" in readme
    missed = "50.0 % of the bound, of 70 %: missed by 28.6 %"
    assert f"| double | fwd+bwd | 1 | 2.00x | 0.500x | 50.0 % | 0 of 1 | {missed} |" in readme
    assert (
        "Slower than another side: double plain, 4096, float32, fwd+bwd: 0.50x torch.compile." in readme
    )
    assert "never run on a GPU" not in readme
    rows = (with_a_gpu / "docs/benchmarks.md").read_text()
    assert "(benchmarks-h200.png)" in rows
    assert (with_a_gpu / "docs/benchmarks-h200.png").read_bytes().startswith(b"\x89PNG")
    cuda = (with_a_gpu / "docs/cuda.md").read_text()
    assert "Measured on NVIDIA H200 (driver 580.1, CUDA 13.0, torch 2.11.0+cu130, commit abc123" in cuda
    assert "| copy | TB/s, read and written | 4.8 | 4.312 |" in cuda
    assert "| wgmma tf32 | TFLOP/s | 494 | not measured |" in cuda
    assert cuda.endswith("rest\n")


def test_checking_sees_pages_and_plots_of_other_results(with_a_gpu: Path) -> None:
    arguments = ["--root", str(with_a_gpu)]
    path = with_a_gpu / "benchmarks/results/h200.json"
    report.main(arguments)
    picture = with_a_gpu / "docs/benchmarks-h200.png"
    drawn = picture.read_bytes()
    write_json(read_json(path) | {"command": "another"}, path)
    assert report.main([*arguments, "--check"]) == 1
    assert report.main(arguments) == 0
    assert picture.read_bytes() != drawn
    picture.write_bytes(drawn)  # the pages are right, the plot is of the results before
    assert report.main([*arguments, "--check"]) == 1


def test_without_a_gpu_the_pages_say_so(with_a_gpu: Path) -> None:
    (with_a_gpu / "benchmarks/results/h200.json").unlink()
    assert report.main(["--root", str(with_a_gpu)]) == 0
    for page in ("README.md", "docs/cuda.md"):
        assert "**The CUDA code has never run on a GPU" in (with_a_gpu / page).read_text()
    assert (
        "| copy | TB/s, read and written | 4.8 | not measured |"
        in (with_a_gpu / "docs/cuda.md").read_text()
    )
    assert not (with_a_gpu / "docs/benchmarks-h200.png").exists()


def test_goals_in_time_and_in_ratio() -> None:
    row = EXAMPLE | {"median_us": 6.0, "reach_us": 5.0, "baseline": {"eager": 9.0}}
    row |= {"reach": {"eager": 2.0, "absent": 3.0}}
    ratio, time = goals(row)
    assert ratio.missed_by == pytest.approx(0.25)
    assert time.missed_by == pytest.approx(0.2)
    assert str(time) == "6 us of at most 5 us: missed by 20.0 %"


def test_plot(repository: Path) -> None:
    path = repository / "plot.png"
    speedup_plot(read_json(repository / "benchmarks/results/cpu.json"), path)
    assert path.read_bytes().startswith(b"\x89PNG")
