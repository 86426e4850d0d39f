"""rejection: which samples are accepted, against the vectorised form and a loop in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COPY

COUNT = 1_000_000
LOOP = "python loop"
# The loop judges this many samples and is counted as often as the batch has them.
LOOPED = 10_000
LOG_M = 2.0
REACH = {FORWARD: {"eager": 4.0, LOOP: 500.0}}
REACH_ON_GPU = {FORWARD: {"eager": 3.0}}


def both(function: Callable[..., tuple[Tensor, Tensor]], logits: Tensor, uniforms: Tensor) -> Tensor:
    """Accepted or not and the maximum in one tensor, so that both are checked."""
    accept, log_m = function(logits, uniforms, LOG_M)
    return accept + log_m.to(logits.dtype)


def accept_in_a_loop(logits: Tensor, uniforms: Tensor, log_m: float) -> tuple[Tensor, Tensor]:
    """As the published samplers do it: one sample after another."""
    accept = []
    for logit, uniform in zip(logits.tolist(), uniforms.tolist(), strict=True):
        log_m = max(log_m, logit)
        d = logit - log_m
        f = d - math.log(-math.expm1(d - 1e-8))
        accept.append(uniform <= 1 / (1 + math.exp(-f)))
    return torch.tensor(accept), torch.tensor(log_m, dtype=logits.dtype)


def rejection_accept(device: str, quick: bool) -> Iterator[Case]:
    if device == "cpu":
        yield _accept(device, COUNT, reach=REACH)
    else:
        yield _accept(device, 10 * COUNT, reach=REACH_ON_GPU)
    if not quick:
        yield _accept(device, COUNT, dtype=torch.float64)
        yield _accept(device, 10 * COUNT if device == "cpu" else COUNT)


def _accept(
    device: str,
    count: int,
    *,
    dtype: torch.dtype = torch.float32,
    reach: Mapping[str, Mapping[str, float]] | None = None,
) -> Case:
    def inputs(generator: torch.Generator) -> Inputs:
        return _draws(generator, count, dtype, device)

    def side(function: Callable[..., tuple[Tensor, Tensor]]) -> Side:
        return Side(partial(both, function), timed=partial(function, log_m=LOG_M))

    def a_part(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        return accept_in_a_loop(logits[:LOOPED], uniforms[:LOOPED], LOG_M)

    nbytes = count * (2 * dtype.itemsize + 1)
    sides = {"eager": side(reference.rejection_accept), "genfast": side(ops.rejection_accept)}
    variant = "uniforms given"
    if device == "cpu":  # Python is no faster on a machine with a GPU
        variant = f"{LOOP} = {LOOPED} samples x {count // LOOPED}"
        loop = partial(both, accept_in_a_loop)
        sides[LOOP] = Side(loop, timed=a_part, repeat=count // LOOPED)
    return Case(
        op="rejection_accept",
        variant=variant,
        dtype=dtype,
        shape=(count,),
        inputs=inputs,
        sides=sides,
        reference=side(reference.rejection_accept),
        directions=(FORWARD,),
        bytes={FORWARD: nbytes},
        bound={FORWARD: Bound(COPY, 1.0, "a copy of the same bytes")},
        reach=reach or {},
    )


def _draws(generator: torch.Generator, count: int, dtype: torch.dtype, device: str) -> Inputs:
    """Logits, and uniforms clear of the boundary, where the last bit would decide and the gate refuse
    either answer.
    """
    logits = torch.randn(count, generator=generator, dtype=dtype)
    uniforms = torch.rand(count, generator=generator, dtype=dtype)
    p = torch.exp(logits.double() - logits.cummax(0).values.double().clamp(min=LOG_M))
    near = (uniforms.double() / p - 1).abs() < 1e-5
    return logits.to(device), uniforms.masked_fill(near, 1.0).to(device)


def rejection_compact(device: str, quick: bool) -> Iterator[Case]:
    if device != "cpu":
        yield _accept_and_compact(device, 10 * COUNT)
    yield _compact(device, (COUNT, 2))
    if not quick:
        yield _compact(device, (1024, 3, 64, 64))


def _compact(device: str, shape: tuple[int, ...], rate: float = 0.3) -> Case:
    """Against indexing by the mask, which knows the count only after waiting for the GPU."""

    def inputs(generator: torch.Generator) -> Inputs:
        samples = torch.randn(shape, generator=generator)
        return samples.to(device), (torch.rand(shape[0], generator=generator) < rate).to(device)

    def index(samples: Tensor, accept: Tensor) -> Tensor:
        return samples[accept]

    def compact(samples: Tensor, accept: Tensor) -> Tensor:
        rows, count = ops.rejection_compact(samples, accept)
        return rows[: int(count)]

    return Case(
        op="rejection_compact",
        variant=f"{rate:.0%} accepted",
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides={"eager": Side(index), "genfast": Side(compact, timed=ops.rejection_compact)},
        reference=Side(index),
        directions=(FORWARD,),
        compile=False,  # the result's shape depends on the data
    )


def _accept_and_compact(device: str, count: int) -> Case:
    """A step of a sampler on a GPU: who is accepted, and they moved together, two numbers a sample."""

    def inputs(generator: torch.Generator) -> Inputs:
        samples = torch.randn(count, 2, generator=generator)
        return (*_draws(generator, count, torch.float32, device), samples.to(device))

    def vectorised(logits: Tensor, uniforms: Tensor, samples: Tensor) -> Tensor:
        return samples[reference.rejection_accept(logits, uniforms, LOG_M)[0]]

    def without_waiting(logits: Tensor, uniforms: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        return ops.rejection_compact(samples, ops.rejection_accept(logits, uniforms, LOG_M)[0])

    def accepted(logits: Tensor, uniforms: Tensor, samples: Tensor) -> Tensor:
        rows, number = without_waiting(logits, uniforms, samples)
        return rows[: int(number)]

    # Logits and uniforms read, answers written and read; how many rows are moved the draws say.
    nbytes = count * (4 + 4 + 1 + 1)
    return Case(
        op="rejection_compact",
        variant="accept, then compact",
        dtype=torch.float32,
        shape=(count, 2),
        inputs=inputs,
        sides={"eager": Side(vectorised), "genfast": Side(accepted, timed=without_waiting)},
        reference=Side(vectorised),
        directions=(FORWARD,),
        compile=False,  # the result's shape depends on the data
        bytes={FORWARD: nbytes},
        bound={FORWARD: Bound(COPY, 1.0, "a copy of the same bytes")},
        reach=REACH_ON_GPU,
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "rejection_accept": rejection_accept,
    "rejection_compact": rejection_compact,
}
