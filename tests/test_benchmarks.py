"""The benchmark harness: fair timing, and no number without a right result."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genfast.benchmarks import rows, run
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.environment import command
from genfast.benchmarks.gate import Refused, judge
from genfast.benchmarks.results import read_json
from genfast.benchmarks.rows import COMPILED, COPY, Settings, run_case
from genfast.benchmarks.taps import tap_mask
from genfast.benchmarks.timing import interleave, summarise, thread_count

FAST = Settings(threads=1, seconds=0.0, min_rounds=2)


def double(x: Tensor) -> Tensor:
    return x + x


def tiny_case(genfast: Side | None = None, **changes: object) -> Case:
    """An op that doubles 4096 numbers, right unless `genfast` is not."""

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randn(4096, generator=generator),)

    case = Case(
        op="double",
        variant="plain",
        dtype=torch.float32,
        shape=(4096,),
        inputs=inputs,
        sides={"eager": Side(double), "genfast": genfast or Side(lambda x: 2 * x)},
        reference=Side(double),
        compile=False,
        bytes={FORWARD: 8 * 4096},
        bound={FORWARD: Bound(COPY, 1.0, "a copy")},
        reach={FORWARD: {"eager": 1000.0}},
    )
    return replace(case, **changes)  # type: ignore[arg-type]


@pytest.fixture
def double_is_an_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OPS", {"double": lambda device, quick: iter([tiny_case()])})
    monkeypatch.setattr(run, "Settings", lambda *args, **options: FAST)
    monkeypatch.setattr(run, "steady_allocator", lambda: False)  # it would outlive the test


# Timing


def test_sides_take_turns_on_rotating_buffers() -> None:
    calls: list[str] = []

    def steps(side: str) -> list[object]:
        return [lambda name=f"{side}{i}": calls.append(name) for i in range(3)]

    sides = {"a": steps("a"), "b": steps("b")}
    timings = interleave(sides, threads=1, seconds=0, min_rounds=3, warmup=1)  # type: ignore[arg-type]
    assert calls[:2] == ["a0", "b0"]  # the warm-up
    assert calls[2:] == ["a0", "b1", "a2", "b0", "a1", "b2"]
    assert timings["a"].n == timings["b"].n == 3


def test_a_sample_is_the_mean_of_its_calls() -> None:
    counted: list[int] = []
    interleave(
        {"a": [lambda: counted.append(1)]},
        threads=1,
        seconds=0,
        min_rounds=2,
        warmup=1,
        calls=10,
    )
    assert len(counted) == 1 + 2 * 10


def test_order_statistics() -> None:
    timing = summarise([float(i) for i in range(101)])
    assert (timing.median_us, timing.p20_us, timing.p80_us) == (50.0, 20.0, 80.0)
    assert (timing.min_us, timing.n) == (0.0, 101)


def test_long_rounds_are_few() -> None:
    timings = interleave(
        {"a": [lambda: None]}, threads=1, seconds=1.0, min_rounds=50, most_seconds=0.0, warmup=1
    )
    assert timings["a"].n == 3


def test_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"), thread_count(0):
        pass


# The gate


def test_a_right_result_is_timed() -> None:
    outcome = run_case(tiny_case(), FAST)
    assert not outcome.refused
    assert [row["direction"] for row in outcome.rows] == [FORWARD, TRAINING]
    row = outcome.rows[0]
    assert row["max_err"] <= row["err_budget"]
    assert row["min_us"] <= row["p20_us"] <= row["median_us"] <= row["p80_us"]
    assert row["bound"]["us"] > 0
    assert set(row["baseline"]) == {"eager"}


def test_a_wrong_result_is_refused() -> None:
    outcome = run_case(tiny_case(Side(lambda x: 2.00001 * x)), FAST)
    assert not outcome.rows
    assert "genfast: output: error" in outcome.refused[0]["reason"]


def test_a_wrong_gradient_is_refused() -> None:
    def wrong_backward(x: Tensor) -> Tensor:
        return 2 * x.detach() + (x - x.detach())  # right value, half the gradient

    outcome = run_case(tiny_case(Side(wrong_backward)), FAST)
    assert [row["direction"] for row in outcome.rows] == [FORWARD]
    assert "gradient 1" in outcome.refused[0]["reason"]


def test_a_wrong_competitor_is_refused_too() -> None:
    case = tiny_case()
    sides = {**case.sides, "peer": Side(lambda x: 3 * x)}
    outcome = run_case(replace(case, sides=sides), FAST)
    assert not outcome.rows
    assert outcome.refused[0]["reason"].startswith("peer: output")


def test_nan_and_wrong_shape_are_refused() -> None:
    exact = torch.ones(3, dtype=torch.float64)
    eager = [exact.float()]
    with pytest.raises(Refused, match="error nan"):
        judge("mine", [torch.full((3,), torch.nan)], eager, [exact])
    with pytest.raises(Refused, match=r"shape \(1,\), not \(3,\)"):
        judge("mine", [torch.ones(1)], eager, [exact])


def test_the_budget_is_twice_eagers_error() -> None:
    exact = torch.zeros(3, dtype=torch.float64)
    eager = [torch.full((3,), 1e-3)]
    assert judge("mine", [torch.full((3,), 1.9e-3)], eager, [exact]).ratio == pytest.approx(0.95)
    with pytest.raises(Refused):
        judge("mine", [torch.full((3,), 2.1e-3)], eager, [exact])


def test_no_compiler_is_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **options: object) -> object:
        def call(x: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler found\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    outcome = run_case(tiny_case(compile=True), FAST)
    assert not outcome.refused
    assert outcome.rows[0]["unavailable"] == {COMPILED: "RuntimeError: no C++ compiler found"}
    assert COMPILED not in outcome.rows[0]["baseline"]
    assert "is left out" in capsys.readouterr().err


def test_a_fault_of_genfast_is_not_hidden() -> None:
    def fault(x: Tensor) -> Tensor:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        run_case(tiny_case(Side(fault)), FAST)


def test_on_a_gpu_a_broken_or_inexact_peer_costs_nobody_a_row() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    case = tiny_case()
    sides = {**case.sides, "broken": Side(broken), "inexact": Side(lambda x: 2.001 * x)}
    x = torch.ones(4096)
    gpu = replace(FAST, device="cuda")
    _, timed, unavailable = rows._gate(replace(case, sides=sides), FORWARD, (x,), None, gpu)
    assert set(timed) == {"eager", "genfast"}
    assert unavailable["broken"] == "RuntimeError: out of memory"
    assert unavailable["inexact"].startswith("Refused: inexact: output: error")
    for name in ("eager", "genfast"):
        wrong = replace(case, sides={**case.sides, name: Side(broken)})
        with pytest.raises(RuntimeError, match="out of memory"):
            rows._gate(wrong, FORWARD, (x,), None, gpu)


def test_a_side_of_one_direction_and_one_that_is_bound() -> None:
    case, bound = tiny_case(), []

    def bind(x: Tensor) -> object:
        bound.append(x)
        return lambda: x + x

    sides = {**case.sides, "replay": Side(double, bind=bind, directions=(FORWARD,))}
    forward, training = run_case(replace(case, sides=sides), FAST).rows
    assert set(forward["baseline"]) == {"eager", "replay"}
    assert set(training["baseline"]) == {"eager"}
    assert len(bound) > 1  # once for each buffer, not for each call


# Result files


def test_the_command_writes_the_schema(
    double_is_an_op: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "result.json"
    assert run.main(["double", "--json", str(path), "--threads", "1"]) == 0
    result = read_json(path)
    assert {"schema", "env", "command", "rows", "refused"} == set(result)
    assert {"cpu", "isa", "threads", "torch", "genfast", "commit", "python", "date"} <= set(
        result["env"]
    )
    wanted = {"op", "variant", "dtype", "shape", "direction", "median_us", "p20_us", "p80_us"}
    wanted |= {"n", "cold_l2", "bytes", "flops", "pct_peak_bw", "baseline", "max_err", "err_budget"}
    for row in result["rows"]:
        assert wanted <= set(row)
    assert result["command"] == "genfast bench double --json result.json --threads 1"
    assert "double plain, 4096, float32, fwd" in capsys.readouterr().out


def test_a_refusal_fails_the_command(
    double_is_an_op: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = tiny_case(Side(lambda x: 3 * x))
    monkeypatch.setattr(run, "OPS", {"double": lambda device, quick: iter([wrong])})
    path = tmp_path / "result.json"
    assert run.main(["--json", str(path)]) == 1
    result = read_json(path)
    assert result["rows"] == []
    assert len(result["refused"]) == 2
    assert "REFUSED double" in capsys.readouterr().out


def test_command_hides_outside_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    inside = str(tmp_path / "a" / "b.json")
    assert command(["--json", inside]) == "genfast bench --json a/b.json"
    assert command(["op", "--json", "../c.json"]) == "genfast bench op --json c.json"


# The command line


def test_unknown_op_names_the_ops(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run.main(["masked_conv3d"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "unknown op 'masked_conv3d'" in message
    for op in run.OPS:
        assert op in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--json", "no/such/folder/f.json"], "--json: cannot write into the folder"),
    ],
)
def test_bad_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert message in capsys.readouterr().err


def test_plotting_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit):
        run.main(["--plot", str(tmp_path / "p.png")])
    assert 'pip install "genfast[bench]"' in capsys.readouterr().err


# The benchmarks themselves


@pytest.mark.parametrize("quick", [True, False])
def test_every_case_is_distinct_and_has_its_sides(quick: bool) -> None:
    cases = [case for make in run.OPS.values() for case in make("cpu", quick)]
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert {"eager", "genfast"} <= set(case.sides)
        assert case.op in run.OPS


def test_the_per_call_row_passes_its_gate() -> None:
    *_, overhead = run.OPS["gated_activation"]("cpu", True)
    outcome = run_case(replace(overhead, calls=2), FAST)
    assert not outcome.refused
    assert "x + 1" in outcome.rows[0]["baseline"]


def test_live_taps() -> None:
    assert float(tap_mask((256, 128, 7, 7), "A")[0, 0].sum()) == 24
    assert float(tap_mask((256, 128, 7, 7), "B")[0, 0].sum()) == 25
    centre = tap_mask((256, 128, 1, 1), "A", colors=2, out_splits=2)[:, :, 0, 0]
    assert not centre[:64].any()  # the first colour of each half sees nothing
    assert not centre[128:192].any()
    assert centre[64:128, :64].all()
    assert not centre[64:128, 64:].any()
