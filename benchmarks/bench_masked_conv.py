"""Masked convolutions against the dense convolution that ports run on masked weights.

Two dense forms: "eager" multiplies weight and mask at every call, as a module must whose
parameter is trained; "pre-masked" is given weights masked beforehand, the best that can be done
with a dense convolution. Everything is channels-last, where both sides are fastest on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks import bench_masked_conv_cuda
from genfast.benchmarks.bench_gated import eager_gate
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.taps import live_gradients, tap_mask

IN, OUT, SIZE = 128, 256, 28
REACH_FORWARD = {3: 1.3, 5: 1.45, 7: 1.55}
REACH_TRAINING = 1.2
# Every value is a sum of thousands of products. How oneDNN splits the sum, and so its error, changes
# with the padding asked for: by 1.0 to 2.2 between two ways of writing the same convolution.
SLACK_ULPS = 8.0


def masked_conv2d(device: str, quick: bool) -> Iterator[Case]:
    if device == "cuda":
        yield from bench_masked_conv_cuda.cases("masked_conv2d", device, quick)
        return
    for kernel in (3, 5, 7):
        for batch in (8,) if quick else (8, 16):
            if not (quick and kernel == 5):
                yield _masked(device, batch, kernel, compile=not quick or kernel == 3)
    for kernel in (1, 3):
        yield _masked(device, 8, kernel, colors=3, compile=False)


def gated_masked_conv2d(device: str, quick: bool) -> Iterator[Case]:
    if device == "cuda":
        yield from bench_masked_conv_cuda.cases("gated_masked_conv2d", device, quick)
        return
    mask = tap_mask((OUT, IN, 3, 3), "B", out_splits=2).to(device)

    def inputs(generator: torch.Generator) -> Inputs:
        x, weight, bias = _conv_inputs(generator, device, 8, 3)
        cond = torch.randn(8, OUT, 1, 1, generator=generator).to(device)
        return x, weight * mask, bias, cond

    def eager(x: Tensor, weight: Tensor, bias: Tensor, cond: Tensor) -> Tensor:
        return eager_gate(F.conv2d(x, weight * mask, bias, padding=1) + cond)

    def premasked(x: Tensor, weight: Tensor, bias: Tensor, cond: Tensor) -> Tensor:
        return eager_gate(F.conv2d(x, weight, bias, padding=1) + cond)

    yield Case(
        op="gated_masked_conv2d",
        variant=f"{IN}->{OUT} k=3 cond",
        dtype=torch.float32,
        shape=(8, IN, SIZE, SIZE),
        inputs=inputs,
        sides={
            "eager": Side(eager),
            "pre-masked": Side(premasked, project=partial(live_gradients, mask=mask)),
            "genfast": Side(partial(ops.gated_masked_conv2d, mask_type="B")),
        },
        reference=Side(partial(reference.gated_masked_conv2d, mask_type="B")),
        compile=not quick,
        slack_ulps=SLACK_ULPS,
    )


def shifted_conv2d(device: str, quick: bool) -> Iterator[Case]:
    del quick

    def inputs(generator: torch.Generator) -> Inputs:
        x, weight, bias = _conv_inputs(generator, device, 8, 3)
        return x, weight[:, :, :2].contiguous(memory_format=torch.channels_last), bias

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 0)), weight, bias)

    yield Case(
        op="shifted_conv2d",
        variant=f"{IN}->{OUT} 2x3 down",
        dtype=torch.float32,
        shape=(8, IN, SIZE, SIZE),
        inputs=inputs,
        sides={"eager": Side(eager), "genfast": Side(partial(ops.shifted_conv2d, shift="down"))},
        reference=Side(partial(reference.shifted_conv2d, shift="down")),
        compile=False,  # a pad and a convolution: nothing to fuse
        slack_ulps=SLACK_ULPS,
    )


def _masked(device: str, batch: int, kernel: int, *, colors: int = 1, compile: bool) -> Case:
    mask = tap_mask((OUT, IN, kernel, kernel), "B", colors=colors).to(device)
    masked = mask.contiguous(memory_format=torch.channels_last)
    live = float(mask.mean())
    flops = 2 * batch * SIZE * SIZE * int(mask.sum())
    bound = Bound("pre-masked", live, "the live taps at the dense convolution's rate")

    def inputs(generator: torch.Generator) -> Inputs:
        x, weight, bias = _conv_inputs(generator, device, batch, kernel)
        return x, weight * masked, bias

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight * masked, bias, padding=kernel // 2)

    def premasked(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=kernel // 2)

    reach = {}
    if colors == 1 and device == "cpu":
        reach[FORWARD] = {"pre-masked": REACH_FORWARD[kernel]}
        reach[TRAINING] = {"pre-masked": REACH_TRAINING}
    return Case(
        op="masked_conv2d",
        variant=f"{IN}->{OUT} k={kernel} B" + (f" colors={colors}" if colors > 1 else ""),
        dtype=torch.float32,
        shape=(batch, IN, SIZE, SIZE),
        inputs=inputs,
        sides={
            "eager": Side(eager),
            "pre-masked": Side(premasked, project=partial(live_gradients, mask=mask)),
            "genfast": Side(partial(ops.masked_conv2d, mask_type="B", colors=colors)),
        },
        reference=Side(partial(reference.masked_conv2d, mask_type="B", colors=colors)),
        compile=compile,
        flops={FORWARD: flops, TRAINING: 3 * flops},
        bound={FORWARD: bound, TRAINING: bound},
        reach=reach,
        slack_ulps=SLACK_ULPS,
    )


def _conv_inputs(
    generator: torch.Generator, device: str, batch: int, kernel: int
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(batch, IN, SIZE, SIZE, generator=generator)
    weight = torch.randn(OUT, IN, kernel, kernel, generator=generator) / (IN * kernel**2) ** 0.5
    bias = torch.randn(OUT, generator=generator)
    channels_last = torch.channels_last
    return (
        x.to(device).contiguous(memory_format=channels_last),
        weight.to(device).contiguous(memory_format=channels_last),
        bias.to(device),
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "masked_conv2d": masked_conv2d,
    "gated_masked_conv2d": gated_masked_conv2d,
    "shifted_conv2d": shifted_conv2d,
}
