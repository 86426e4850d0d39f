"""The benchmarks of a GPU, as far as they run without one, and the rule that is derived from them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emulated import emulation
from test_benchmarks import FAST, double_is_an_op, tiny_case  # noqa: F401

from genfast.benchmarks import (
    bench_lstm_scan,
    bench_masked_conv_cuda,
    bench_pixel_sampler_cuda,
    bench_rejection,
    conv_rule,
    run,
)
from genfast.benchmarks.bench_lstm_scan import GRAPH
from genfast.benchmarks.cases import FORWARD, TRAINING, Case
from genfast.benchmarks.constants import RECALLED, read_constants
from genfast.benchmarks.conv_rule import CUDNN, OWN
from genfast.benchmarks.results import Row, read_json
from genfast.benchmarks.rows import COMPILED, LATER, Outcome, Settings, failed, run_case
from genfast.ops import conv_rule as ops_rule
from genfast.ops import conv_table


@pytest.fixture
def small_gpu_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolutions of a GPU's benchmark on an image or two, where the tensors are the CPU's."""
    for name, size in (("BATCH", 1), ("SIZE", 5)):
        monkeypatch.setattr(bench_masked_conv_cuda, name, size)


@pytest.mark.usefixtures("small_gpu_cases")
@pytest.mark.parametrize("op", ["masked_conv2d", "gated_masked_conv2d"])
def test_the_rows_that_decide_between_convolutions(op: str) -> None:
    cases = list(bench_masked_conv_cuda.cases(op, "cpu", quick=False))
    assert {case.conv.kernel for case in cases if case.conv} == {3, 5, 7}
    assert {case.conv.arithmetic for case in cases if case.conv} == {"bfloat16", "tf32", "float32"}
    assert len({case.key for case in cases}) == len(cases)
    first = cases[0]
    assert first.compile  # but not here: it takes seconds, and is tested elsewhere
    settings = replace(FAST, constants={"mma bf16": 500.0})
    with emulation():
        outcome = run_case(replace(first, compile=False), settings)
    assert not outcome.refused
    for row in outcome.rows:
        assert {CUDNN, OWN, "eager", "pre-masked"} <= set(row["baseline"])
        assert row["conv"] == {"arithmetic": "bfloat16", "kernel": 3, "channels": 128}
        assert row["bound"]["us"] >= row["flops"] / 500e6 * 0.999


@pytest.mark.parametrize("op", ["row_lstm", "diagonal_lstm"])
def test_the_rows_of_the_lstm_scans(op: str) -> None:
    cases = list(bench_lstm_scan.lstm_scan("cuda", quick=False))
    assert len({case.key for case in cases}) == len(cases)
    small = bench_lstm_scan.Setting(2, 8, torch.channels_last, dtype=torch.bfloat16, size=4)
    case, here = (bench_lstm_scan._case(op, device, small, quick=True) for device in ("cuda", "cpu"))
    settings = replace(FAST, constants={"mma bf16": 500.0})
    with emulation():
        outcome = run_case(replace(case, inputs=here.inputs), settings)
    assert not outcome.refused
    assert [row["direction"] for row in outcome.rows] == [FORWARD, TRAINING]
    for row in outcome.rows:
        assert row["bound"]["us"] >= row["flops"] / 500e6 * 0.999


def test_both_directions_of_a_scan() -> None:
    small = bench_lstm_scan.Setting(1, 8, torch.channels_last, dtype=torch.bfloat16, size=4, both=True)
    case, here = (
        bench_lstm_scan._case("diagonal_lstm", device, small, quick=True) for device in ("cuda", "cpu")
    )
    assert case.reach[FORWARD] == {COMPILED: 3.0, GRAPH: 3.0}
    sides = {name: side for name, side in case.sides.items() if name != GRAPH}
    with emulation():
        outcome = run_case(replace(case, sides=sides, inputs=here.inputs), FAST)
    assert not outcome.refused
    assert [row["direction"] for row in outcome.rows] == [FORWARD, TRAINING]
    assert outcome.rows[0]["flops"] == 2 * 2 * 16 * 4 * 8 * 8 * 2


def test_the_rows_of_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models; what draws read is compared, the first image's alone, and all images are drawn."""
    cuda = bench_pixel_sampler_cuda
    monkeypatch.setattr(cuda, "FIRST", 1)
    settings = replace(FAST, constants={"fma": 30.0})
    with emulation():
        gated = cuda._case(cuda._gated(1, 4, 4), 2, "cpu", wanted=7.0, incremental=True)
        colours = cuda._case(cuda._pixelcnn_pp(4, 1, 8), 2, "cpu")
        outcomes = [run_case(case, settings) for case in (gated, colours)]
    for outcome in outcomes:
        assert not outcome.refused
        (row,) = outcome.rows
        assert row["bound"]["us"] >= row["flops"] / 60e6 * 0.999
    (row,) = outcomes[0].rows
    assert {"eager", cuda.PLAIN} <= set(row["baseline"])
    assert "eager = 32 x its best forward of 1" in row["variant"]
    assert row["reach_us"] == 7.0


def test_accepting_and_compacting_in_one_row() -> None:
    with emulation():
        outcome = run_case(bench_rejection._accept_and_compact("cpu", 3000), FAST)
    assert not outcome.refused
    assert set(outcome.rows[0]["baseline"]) == {"eager"}


def test_the_goals_of_an_h200_are_those_of_its_rows() -> None:
    def made(op: str) -> dict[tuple[str, tuple[int, ...]], Case]:
        return {(case.variant, case.shape): case for case in run.OPS[op]("cuda", False)}

    def best(op: str, shape: tuple[int, ...]) -> Case:
        return next(case for (_, found), case in made(op).items() if found == shape)

    assert best("gated_activation", (64, 256, 64, 64)).reach_bound[FORWARD] == 85.0
    assert best("logistic_mixture_log_prob", (512, 100, 32, 32)).reach_bound[TRAINING] == 70.0
    assert best("gaussian_mixture_log_prob", (1024, 1_000_000, 40)).reach_us == {TRAINING: 4000.0}
    both = "diagonal, channels-last, saved=minimal, both directions"
    layer = made("lstm_scan")[both, (128, 512, 32, 32)]
    assert layer.reach_us == {FORWARD: 270.0}
    assert GRAPH in layer.sides
    many = made("rejection_compact")["accept, then compact", (10_000_000, 2)]
    assert many.reach == {FORWARD: {"eager": 3.0}}
    assert best("rejection_accept", (10_000_000,)).reach == {FORWARD: {"eager": 3.0}}


def conv_row(direction: str, own: float, cudnn: float, kernel: int = 3) -> Row:
    conv = {"arithmetic": "bfloat16", "kernel": kernel, "channels": 128}
    return {
        "op": "masked_conv2d",
        "direction": direction,
        "conv": conv,
        "baseline": {OWN: own, CUDNN: cudnn},
    }


def test_the_rule_follows_from_the_rows(tmp_path: Path) -> None:
    """Faster in both directions, by the margin; what was not measured stays with cuDNN."""
    rows = [conv_row(FORWARD, 1.0, 2.0), conv_row(TRAINING, 1.0, 1.1)]
    rows += [conv_row(FORWARD, 1.0, 2.0, kernel=5), conv_row(TRAINING, 1.0, 1.01, kernel=5)]
    rows += [conv_row(FORWARD, 1.0, 2.0, kernel=7)]
    measured = conv_rule.table([{"rows": rows}])
    assert list(measured.values()) == [True, False, False]
    before = (Path(conv_table.__file__)).read_text()
    assert conv_rule.page({}, before) == before  # what is committed is unmeasured
    text = conv_rule.page(measured, before)
    namespace: dict[str, object] = {}
    exec(text, namespace)
    assert namespace["MEASURED"] == measured
    assert conv_rule.page({}, text) == before


def test_the_rule_asks_for_the_next_smaller_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {("op", "bfloat16", 3, 64): False, ("op", "bfloat16", 3, 128): True}
    monkeypatch.setattr(ops_rule, "MEASURED", table)
    asked = {c: ops_rule.faster("op", "bfloat16", 3, c) for c in (32, 64, 127, 128, 4096)}
    assert asked == {32: False, 64: False, 127: False, 128: True, 4096: True}
    assert not ops_rule.faster("op", "bfloat16", 5, 128)
    assert not ops_rule.faster("op", "tf32", 3, 128)
    meta = torch.empty(1, 128, 4, 4, device="meta"), torch.empty(8, 128, 3, 3, device="meta")
    assert not ops_rule.own_kernel("op", *meta)  # not on CUDA


def test_resuming_keeps_the_rows_there_are(
    double_is_an_op: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path, ran = tmp_path / "result.json", []

    def cases(device: str, quick: bool) -> list[Case]:
        return [tiny_case(), tiny_case(variant="second")]

    def counted(case: Case, settings: Settings) -> object:
        ran.append(case.variant)
        if case.variant == "second" and len(ran) == 2:
            raise KeyboardInterrupt
        return run_case(case, settings)

    monkeypatch.setattr(run, "OPS", {"double": cases})
    monkeypatch.setattr(run, "run_case", counted)
    with pytest.raises(KeyboardInterrupt):
        run.main(["--json", str(path)])
    assert {row["variant"] for row in read_json(path)["rows"]} == {"plain"}
    assert run.main(["--json", str(path), "--resume"]) == 0
    assert ran == ["plain", "second", "second"]
    assert [row["variant"] for row in read_json(path)["rows"]] == ["plain"] * 2 + ["second"] * 2


def test_torch_compile_can_be_left_for_later(
    double_is_an_op: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path, measured = tmp_path / "result.json", []

    def cases(device: str, quick: bool) -> list[Case]:
        return [tiny_case(compile=True, later=True), tiny_case(variant="second")]

    def counted(case: Case, settings: Settings) -> object:
        measured.append((case.variant, settings.compile))
        return run_case(case, settings)

    def settings(*arguments: object, compile: bool, **others: object) -> Settings:
        return replace(FAST, compile=compile)

    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(run, "OPS", {"double": cases})
    monkeypatch.setattr(run, "run_case", counted)
    monkeypatch.setattr(run, "Settings", settings)
    assert run.main(["--json", str(path), "--no-compile"]) == 0
    assert measured == [("second", False), ("plain", False)]
    assert read_json(path)["rows"][-1]["unavailable"] == {COMPILED: LATER}
    assert run.main(["--json", str(path), "--resume", "--no-compile"]) == 0
    assert len(measured) == 2
    assert run.main(["--json", str(path), "--resume"]) == 0
    assert measured[2:] == [("plain", True)]
    rows = read_json(path)["rows"]
    assert [row["variant"] for row in rows] == ["second"] * 2 + ["plain"] * 2
    assert all(COMPILED in row["baseline"] for row in rows[2:])


def test_a_lost_gpu_ends_the_run(
    double_is_an_op: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "result.json"

    def broken(case: Case, settings: Settings) -> Outcome:
        return Outcome([], failed(case, "an illegal memory access"))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(run, "environment", lambda **known: {"cpu": "x", "isa": "y", "gpu": "Z"} | ENV)
    monkeypatch.setattr(run, "_run", broken)
    monkeypatch.setattr(run, "_context_is_lost", lambda: True)
    ran: list[str] = []

    def cases(device: str, quick: bool) -> list[Case]:
        return [tiny_case(), tiny_case(variant="second")]

    monkeypatch.setattr(run, "OPS", {"double": cases})
    arguments = ["--json", str(path), "--device", "cuda"]
    assert run.main(arguments) == run.LOST
    reasons = {row["reason"] for row in read_json(path)["refused"]}
    assert reasons == {"stopped the run: the GPU's context is lost, an illegal memory access"}
    monkeypatch.setattr(run, "_run", lambda case, settings: ran.append(case.variant) or Outcome([], []))
    monkeypatch.setattr(run, "_context_is_lost", lambda: False)
    assert run.main([*arguments, "--resume"]) == 1
    assert ran == ["second"]  # the one that did it is not run again


def test_a_case_without_an_end_ends_the_process(tmp_path: Path) -> None:
    """In a process of its own, with a case that sleeps in place of a kernel that waits."""
    path = tmp_path / "result.json"
    code = f"""
import time, torch
from test_benchmarks import tiny_case
from genfast.benchmarks import run
torch.cuda.is_available = lambda: True
run.environment = lambda **known: {ENV | {"cpu": "x", "isa": "y", "gpu": "Z"}}
run.OPS = {{"double": lambda device, quick: [tiny_case()]}}
run._run = lambda case, settings: time.sleep(60)
run._SECONDS_OF_A_CASE = 0.2
run.main(["--json", {str(path)!r}, "--device", "cuda"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, timeout=50)
    assert done.returncode == run.LOST
    refused = read_json(path)["refused"]
    assert [row["reason"] for row in refused] == ["stopped the run: no result within 0 s"] * 2


ENV = {"torch": "2", "genfast": "1", "commit": "c", "threads": 1, "load_average": None}


def test_every_constant_is_in_the_table_of_the_docs() -> None:
    source = (Path(run.__file__).parent / "cuda" / "constants.cu").read_text()
    named = re.findall(r'^ +\{"([^"]+)", +"([^"]+)"', source, re.MULTILINE)
    assert dict(named) == {name: unit for name, (unit, _) in RECALLED.items()}


def test_constants_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    path.write_text('{"gpu": "X", "sm": 1}\n{"constant": "copy", "value": 4.3, "unit": "TB/s"}\n{"con')
    assert read_constants(path) == {"copy": 4.3}
