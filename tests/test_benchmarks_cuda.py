"""The benchmarks of a GPU, as far as they run without one, and the rule that is derived from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emulated import emulation
from test_benchmarks import FAST, double_is_an_op, tiny_case  # noqa: F401

from genfast.benchmarks import bench_lstm_scan, bench_masked_conv_cuda, conv_rule, run
from genfast.benchmarks.cases import FORWARD, TRAINING, Case
from genfast.benchmarks.constants import read_constants
from genfast.benchmarks.conv_rule import CUDNN, OWN
from genfast.benchmarks.results import Row, read_json
from genfast.benchmarks.rows import Settings, run_case
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


def test_constants_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    path.write_text('{"gpu": "X", "sm": 1}\n{"constant": "copy", "value": 4.3, "unit": "TB/s"}\n{"con')
    assert read_constants(path) == {"copy": 4.3}
