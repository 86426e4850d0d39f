"""gated_activation: a pass over memory, so the bound is a copy of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, RECORDED, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COPY

SHAPE = (16, 256, 28, 28)
REACH = {FORWARD: {"eager": 5.0, "torch.compile": 2.5}, TRAINING: {"eager": 3.0}}
REACH_US = 5.0
REACH_BOUND = 85.0  # per cent of a copy, on a GPU


def eager_gate(x: Tensor) -> Tensor:
    """The gate as models write it."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


# On a GPU: large enough that starting a kernel does not count.
CUDA_SHAPE = (64, 256, 64, 64)


def gated_activation(device: str, quick: bool) -> Iterator[Case]:
    if device == "cuda":
        yield from _on_gpu(quick)
        return
    yield _case(device, torch.float32, torch.contiguous_format, reach=True)
    if not quick:
        yield _case(device, torch.float32, torch.channels_last)
        yield _case(device, torch.bfloat16, torch.contiguous_format)
    yield _case(device, torch.bfloat16, torch.channels_last, compile=not quick)
    yield _overhead(device)


def _on_gpu(quick: bool) -> Iterator[Case]:
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            if not (quick and layout == torch.contiguous_format):
                yield _case("cuda", dtype, layout, shape=CUDA_SHAPE, reach_bound=REACH_BOUND)
    yield _overhead("cuda")


def _case(
    device: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    *,
    shape: tuple[int, ...] = SHAPE,
    compile: bool = True,
    reach: bool = False,
    reach_bound: float | None = None,
) -> Case:
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    bound = Bound(COPY, 1.0, "a copy of the same bytes")

    def inputs(generator: torch.Generator) -> Inputs:
        x = torch.randn(shape, generator=generator)
        return (x.to(device, dtype).contiguous(memory_format=layout),)

    return Case(
        op="gated_activation",
        variant="channels-last" if layout == torch.channels_last else "NCHW",
        dtype=dtype,
        shape=shape,
        inputs=inputs,
        sides={"eager": Side(eager_gate), "genfast": Side(ops.gated_activation)},
        reference=Side(reference.gated_activation),
        compile=compile,
        # Forward: read x, write half as much. Backward: read x and the gradient, write dx.
        bytes={FORWARD: nbytes * 3 // 2, TRAINING: nbytes * 4},
        bound={FORWARD: bound, TRAINING: bound},
        reach=REACH if reach else {},
        reach_bound={} if reach_bound is None else {FORWARD: reach_bound, TRAINING: reach_bound},
    )


def _overhead(device: str) -> Case:
    """What a call costs before any work: one output element, against the cheapest op of torch."""

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randn(1, 2, 1, 1, generator=generator).to(device),)

    return Case(
        op="gated_activation",
        variant="cost of a call",
        dtype=torch.float32,
        shape=(1, 2, 1, 1),
        inputs=inputs,
        sides={
            "eager": Side(eager_gate),
            "x + 1": Side(lambda x: x + 1, project=lambda results: []),
            "genfast": Side(ops.gated_activation),
        },
        reference=Side(reference.gated_activation),
        directions=(FORWARD, RECORDED),
        compile=False,
        calls=1000,
        reach_us={FORWARD: REACH_US} if device == "cpu" else {},
        slack_ulps=4.0,
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"gated_activation": gated_activation}
