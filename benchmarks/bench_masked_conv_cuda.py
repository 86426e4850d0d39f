"""Masked and gated masked convolutions on a GPU, in bf16, TF32 and fp32.

Against cuDNN's dense convolution on weights masked beforehand, cuDNN on the kernel cropped to its live
rows (what genfast runs where its own kernel was not measured to be faster), and torch.compile; "genfast"
is the public function. The rows decide between the last two: see conv_rule.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks.bench_gated import eager_gate
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Conv, Inputs, Side
from genfast.benchmarks.conv_rule import CUDNN, OWN
from genfast.benchmarks.rows import COPY
from genfast.benchmarks.taps import live_gradients, tap_mask
from genfast.ops import masked_conv, masked_conv_native

BATCH, SIZE = 64, 32
KERNELS = (3, 5, 7)
# Arithmetic -> element type, the constant of its mma.sync rate, products of that rate for one.
ARITHMETICS = {
    "bfloat16": (torch.bfloat16, "mma bf16", 1),
    "tf32": (torch.float32, "mma tf32", 1),
    "float32": (torch.float32, "mma tf32", 3),
}
# A sum of thousands of products: its error turns on how a library splits it.
SLACK_ULPS = 8.0
REACH = {CUDNN: 1.2, "pre-masked": 1.2}


@dataclass(frozen=True)
class Problem:
    gated: bool
    arithmetic: str
    kernel: int
    channels: int

    @property
    def outputs(self) -> int:
        return 2 * self.channels

    @property
    def splits(self) -> int:
        return 2 if self.gated else 1

    @property
    def dtype(self) -> torch.dtype:
        return ARITHMETICS[self.arithmetic][0]

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.outputs, self.channels, self.kernel, self.kernel


def cases(op: str, device: str, quick: bool) -> Iterator[Case]:
    """The cases of "masked_conv2d" or "gated_masked_conv2d"; those that matter most come first."""
    gated = op == "gated_masked_conv2d"
    for kernel in KERNELS[:1] if quick else KERNELS:
        for arithmetic in ARITHMETICS:
            later = kernel > 3 and arithmetic != "bfloat16"
            yield replace(_case(op, Problem(gated, arithmetic, kernel, 128), device), later=later)
    if not quick:
        yield replace(_case(op, Problem(gated, "bfloat16", 3, 64), device), later=True)


def _case(op: str, problem: Problem, device: str) -> Case:
    mask = tap_mask(problem.weight_shape, "B", out_splits=problem.splits)
    flops = 2 * BATCH * SIZE * SIZE * int(mask.sum())
    maps = problem.channels + (problem.channels if problem.gated else problem.outputs)
    nbytes = (BATCH * SIZE * SIZE * maps + mask.numel()) * problem.dtype.itemsize
    _, rate, products = ARITHMETICS[problem.arithmetic]
    bound = Bound(COPY, products, "the live taps at the measured mma.sync rate, or a copy", rate)
    mask = mask.to(device)
    return Case(
        op=op,
        variant=f"{problem.channels}->{problem.outputs} k={problem.kernel} B {problem.arithmetic}",
        dtype=problem.dtype,
        shape=(BATCH, problem.channels, SIZE, SIZE),
        inputs=partial(_inputs, problem, mask),
        sides=_sides(problem, mask),
        reference=Side(_exact(problem, mask)),
        compile=problem.kernel == 3 and problem.arithmetic != "float32",
        # Backward: the same map once more each way, with a gradient each of x and weight.
        bytes={FORWARD: nbytes, TRAINING: 3 * nbytes},
        flops={FORWARD: flops, TRAINING: 3 * flops},
        bound={FORWARD: bound, TRAINING: bound},
        reach={FORWARD: REACH} if problem.gated and problem.arithmetic != "float32" else {},
        slack_ulps=SLACK_ULPS,
        headline=True,
        tf32=problem.arithmetic == "tf32",
        conv=Conv(problem.arithmetic, problem.kernel, problem.channels),
    )


def _inputs(problem: Problem, mask: Tensor, generator: torch.Generator) -> Inputs:
    """x, weight (masked, channels-last), bias and, with a gate, a condition for each image."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(mask.device, problem.dtype)

    def images(t: Tensor) -> Tensor:
        return t.contiguous(memory_format=torch.channels_last)

    x = images(normal(BATCH, problem.channels, SIZE, SIZE))
    weight = normal(*problem.weight_shape) * mask / (problem.channels * problem.kernel**2) ** 0.5
    made = x, images(weight.to(problem.dtype)), normal(problem.outputs)
    return (*made, normal(BATCH, problem.outputs, 1, 1)) if problem.gated else made


def _sides(problem: Problem, mask: Tensor) -> dict[str, Side]:
    padding, project = problem.kernel // 2, partial(live_gradients, mask=mask)

    def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=padding)

    def masked(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return dense(x, weight * mask.to(weight.dtype), bias)

    def cropped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return masked_conv.cropped_conv2d(x, weight, bias, "B", 1, problem.splits)

    if not problem.gated:
        own = partial(_own, problem)
        return {
            "eager": Side(masked),
            "pre-masked": Side(dense, project=project),
            CUDNN: Side(cropped),
            OWN: Side(own),
            "genfast": Side(partial(ops.masked_conv2d, mask_type="B")),
        }

    def gated(conv: Callable[..., Tensor], gate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, weight, bias, cond: gate(conv(x, weight, bias), cond)

    def eager_with(y: Tensor, cond: Tensor) -> Tensor:
        return eager_gate(y + cond)

    return {
        "eager": Side(gated(masked, eager_with)),
        "pre-masked": Side(gated(dense, eager_with), project=project),
        CUDNN: Side(gated(cropped, ops.gated_activation)),
        OWN: Side(partial(_own, problem)),
        "genfast": Side(partial(ops.gated_masked_conv2d, mask_type="B")),
    }


def _own(problem: Problem, *tensors: Tensor) -> Tensor:
    if problem.gated:
        return masked_conv_native.gated_masked_conv2d(*tensors, "B", 1)
    return masked_conv_native.masked_conv2d(*tensors, "B", 1, 1)


def _exact(problem: Problem, mask: Tensor) -> Callable[..., Tensor]:
    """The dense convolution in fp64; the reference's own mask takes a loop over all its elements."""

    def conv(x: Tensor, weight: Tensor, bias: Tensor, cond: Tensor | None = None) -> Tensor:
        y = F.conv2d(x, weight * mask, bias, padding=problem.kernel // 2)
        return reference.gated_activation(y, cond) if problem.gated else y

    return conv
