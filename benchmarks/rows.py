"""From a case to its result rows: gate, then time, then write down."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from genfast.benchmarks.cases import (
    FORWARD,
    TRAINING,
    Bound,
    Case,
    Inputs,
    Side,
    as_double,
    trainable,
)
from genfast.benchmarks.gate import ALLOWED, ALLOWED_TO_OTHERS, Refused, Verdict, judge
from genfast.benchmarks.results import Row
from genfast.benchmarks.timing import Step, Timing, interleave, thread_count

COMPILED = "torch.compile"
COPY = "copy"  # the side that only moves a case's bytes
LATER = "left for a later run"  # why torch.compile is missing, if the run was to leave it out

# With CUDA graphs the first calls of a compiled function warm up and record.
_CALLS_TO_SETTLE = 3
_ROTATED_BYTES = 128 << 20  # more than any cache that the machines in question have


@dataclass(frozen=True)
class Settings:
    """How a run measures: where, and for how long each row."""

    device: str = "cpu"
    threads: int = 1
    seconds: float = 2.5
    min_rounds: int = 9
    most_seconds: float | None = None  # after these, three rounds have to do
    constants: Mapping[str, float] = field(default_factory=dict)  # of the GPU; see constants.py
    compile: bool = True  # False: without torch.compile, where cases have it


@dataclass(frozen=True)
class Outcome:
    """What one case gave: rows to report, and why the others are refused."""

    rows: list[Row]
    refused: list[Row]


def run_case(case: Case, settings: Settings) -> Outcome:
    """Gate, then time, each direction of a case."""
    torch._dynamo.reset()  # a case's compiled code must not depend on the cases before it
    generator = torch.Generator().manual_seed(0)
    first = case.inputs(generator)
    copies = max(2, min(8, -(-_ROTATED_BYTES // max(1, _nbytes(first)))))
    buffers = [first] + [case.inputs(generator) for _ in range(copies - 1)]
    outcome = Outcome([], [])
    for direction in case.directions:
        label = _label(case, direction)
        try:
            with torch.random.fork_rng(), thread_count(settings.threads), _tf32(case.tf32):
                torch.manual_seed(0)
                outcome.rows.append(label | _measure(case, direction, buffers, settings))
        except Refused as error:
            outcome.refused.append(label | {"reason": str(error)})
    return outcome


def failed(case: Case, reason: str) -> list[Row]:
    """The refused rows of a case that could not be run at all."""
    return [_label(case, direction) | {"reason": reason} for direction in case.directions]


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _measure(case: Case, direction: str, buffers: Sequence[Inputs], settings: Settings) -> Row:
    grad = direction != FORWARD
    buffers = [trainable(inputs, grad) for inputs in buffers]
    with torch.set_grad_enabled(grad):
        upstreams = _upstreams(case.sides["eager"], buffers, direction)
        verdict, sides, unavailable = _gate(case, direction, buffers[0], upstreams[0], settings)
        steps: dict[str, Sequence[Step]] = {
            name: [
                side.step(inputs, upstream, direction)
                for inputs, upstream in zip(buffers, upstreams, strict=True)
            ]
            for name, side in sides.items()
        }
        if direction in case.bytes:
            steps[COPY] = _copies(case.bytes[direction], len(buffers), settings.device)
        timings = interleave(
            steps,
            threads=settings.threads,
            seconds=settings.seconds,
            min_rounds=settings.min_rounds,
            most_seconds=settings.most_seconds,
            calls=case.calls,
            device=settings.device,
        )
    timings = {
        name: timing.times(sides[name].repeat) if name in sides and sides[name].repeat > 1 else timing
        for name, timing in timings.items()
    }
    row = _row(case, direction, timings, verdict, unavailable, settings)
    if case.saved and direction == TRAINING:
        # On a GPU the compiled side would be compiled anew for being watched.
        watched = {n: s for n, s in sides.items() if n != COMPILED or settings.device == "cpu"}
        row["saved_bytes"] = {name: _saved_bytes(side, buffers[0]) for name, side in watched.items()}
    return row


def _saved_bytes(side: Side, inputs: Inputs) -> int:
    """What a forward keeps alive for its backward: storages of tensors saved by autograd, once each."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = side.fn(*inputs)
    del output
    return sum(held.values())


def _gate(
    case: Case, direction: str, inputs: Inputs, upstream: Tensor | None, settings: Settings
) -> tuple[Verdict, dict[str, Side], dict[str, str]]:
    """genfast's verdict, the sides that may be timed, and why others are missing.

    A GPU is lent: there a peer that breaks or is not exact enough does not cost the others their row.
    """
    exact_inputs = trainable(as_double(inputs), direction != FORWARD)
    exact_upstream = None if upstream is None else upstream.double()
    reference = case.reference.call(exact_inputs, exact_upstream, direction)
    eager = case.sides["eager"].call(inputs, upstream, direction)
    sides = {
        name: side
        for name, side in case.sides.items()
        if side.directions is None or direction in side.directions
    }
    unavailable = {}
    if case.compile and settings.compile:
        sides[COMPILED] = _compiled(sides["eager"], inputs[0].device.type)
    elif case.compile:
        unavailable[COMPILED] = LATER
    kept = ("eager", "genfast") if settings.device != "cpu" else [*case.sides]
    verdicts: dict[str, Verdict] = {}
    for name, side in list(sides.items()):
        try:
            for _ in range(_CALLS_TO_SETTLE if name == COMPILED else 1):
                got = side.call(inputs, upstream, direction)
            project = side.project or (lambda results: results)
            verdicts[name] = judge(
                name,
                project(got),
                project(eager),
                project(reference),
                allowed=ALLOWED if name == "genfast" else ALLOWED_TO_OTHERS,
                slack_ulps=case.slack_ulps,
            )
        except Exception as error:
            if name in kept:
                raise
            # No compiler on this machine, a graph it cannot do, code that is not exact enough: a fact to
            # report, not a fault.
            unavailable[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            print(f"note: {case.name}: {name} is left out: {unavailable[name]}", file=sys.stderr)
            del sides[name]
    return verdicts["genfast"], sides, unavailable


def _compiled(side: Side, device: str) -> Side:
    # Inductor would start worker processes, which still take the cores while the row is timed. On a GPU
    # that does not matter, but their time does.
    if device == "cpu":
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # With CUDA graphs on a GPU: the best that torch.compile offers for short kernels.
    mode = None if device == "cpu" else "reduce-overhead"
    compiled = partial(torch.compile, dynamic=False, mode=mode)
    timed = None if side.timed is None else compiled(side.timed)
    return replace(side, fn=compiled(side.fn), timed=timed)


def _row(
    case: Case,
    direction: str,
    timings: Mapping[str, Timing],
    verdict: Verdict,
    unavailable: Mapping[str, str],
    settings: Settings,
) -> Row:
    ours = timings["genfast"]
    others = {name: t for name, t in timings.items() if name not in ("genfast", COPY)}
    row: Row = {
        "median_us": _round(ours.median_us),
        "p20_us": _round(ours.p20_us),
        "p80_us": _round(ours.p80_us),
        "min_us": _round(ours.min_us),
        "n": ours.n,
        "cold_l2": case.calls == 1,
        "bytes": case.bytes.get(direction),
        "flops": case.flops.get(direction),
        "pct_peak_bw": None,
        "bound": None,
        "baseline": {name: _round(t.median_us) for name, t in others.items()},
        "baseline_min_us": {name: _round(t.min_us) for name, t in others.items()},
        "unavailable": dict(unavailable),
        "max_err": verdict.max_err,
        "err_budget": verdict.err_budget,
        "reach": dict(case.reach.get(direction, {})),
        "reach_us": case.reach_us.get(direction),
        "reach_bound": case.reach_bound.get(direction),
        "headline": case.headline
        or any(direction in goals for goals in (case.reach, case.reach_us, case.reach_bound)),
    }
    if COPY in timings:
        row["pct_peak_bw"] = _round(100 * timings[COPY].median_us / ours.median_us)
    if case.conv:
        row["conv"] = asdict(case.conv)
    bound = case.bound.get(direction)
    bound_us = bound and _bound_us(bound, timings, case.flops.get(direction, 0), settings.constants)
    if bound and bound_us:
        row["bound"] = {
            "text": bound.text,
            "us": _round(bound_us),
            "pct": _round(100 * bound_us / ours.median_us),
        }
    return row


def _bound_us(
    bound: Bound, timings: Mapping[str, Timing], flops: int, constants: Mapping[str, float]
) -> float | None:
    bytes_us = timings[bound.side].median_us
    if bound.rate is None:
        return bound.share * bytes_us
    if bound.rate not in constants:
        return None
    return max(bytes_us, bound.share * flops / (constants[bound.rate] * 1e6))


def _label(case: Case, direction: str) -> Row:
    return {
        "op": case.op,
        "variant": case.variant,
        "dtype": str(case.dtype).removeprefix("torch."),
        "shape": list(case.shape),
        "direction": direction,
    }


def _upstreams(eager: Side, buffers: Sequence[Inputs], direction: str) -> list[Tensor | None]:
    """Gradients from above, one a buffer, in the memory format of the output."""
    if direction != TRAINING:
        return [None] * len(buffers)
    with torch.no_grad():
        output = eager.fn(*buffers[0])
    if output.dim() == 0:
        return [torch.ones_like(output) for _ in buffers]
    return [torch.randn_like(output) for _ in buffers]


def _copies(nbytes: int, count: int, device: str) -> list[Step]:
    """Copies that read and write `nbytes` in all."""
    half = max(1, nbytes // 2)
    pairs = [torch.zeros(2, half, dtype=torch.uint8, device=device) for _ in range(count)]
    return [partial(target.copy_, source) for source, target in pairs]


def _nbytes(inputs: Inputs) -> int:
    return sum(x.numel() * x.element_size() for x in inputs)


def _round(value: float) -> float:
    return float(f"{value:.4g}")
