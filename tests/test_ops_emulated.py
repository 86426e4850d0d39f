"""The CUDA kernels, run on the CPU: right against the reference, and under every schedule the same.

Shapes are small: a thread costs what a function call costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from checks import assert_as_exact_as_torch, assert_close, forward_backward, in_fp64, normal_like
from contract import over_cases, over_ops, short
from emulated import SCHEDULES, emulation
from opspec import DIFFERENTIABLE, SPECS
from specs.base import FLOATS, Case, OpSpec

NATIVE = [spec for spec in SPECS if spec.registered or spec.cuda_only]


@pytest.fixture
def emulated() -> Iterator[ModuleType]:
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with emulation() as module:
        yield module
        module.configure("forward", 0)
    torch.backends.cudnn.allow_tf32 = tf32


def kernel(spec: OpSpec) -> Callable[..., torch.Tensor]:
    return spec.kernel or spec.op


@over_cases(NATIVE)
def test_opcheck_emulated(spec: OpSpec, case: Case, emulated: ModuleType) -> None:
    """torch's own check of the ops that have no CPU kernel."""
    tensors = spec.tensors(case, torch.float32)
    for registered in spec.cuda_only:
        op = getattr(torch.ops.genfast, registered.name).default
        result = torch.library.opcheck(op, registered.arguments(*tensors, **case.keywords))
        assert set(result.values()) == {"SUCCESS"}


@over_ops([spec for spec in NATIVE if spec in DIFFERENTIABLE])
def test_derivatives_emulated(spec: OpSpec, emulated: ModuleType) -> None:
    """Gradients, and gradients of gradients, against finite differences in fp64."""
    case = min(spec.cases, key=lambda c: sum(math.prod(s) for s in c.shapes if s is not None))
    wanted = spec.differentiable(case)
    inputs = spec.tensors(case, torch.float64)
    leaves = [inputs[i].requires_grad_() for i in wanted]

    def function(*leaves: torch.Tensor) -> torch.Tensor:
        arguments = list(inputs)
        for i, leaf in zip(wanted, leaves, strict=True):
            arguments[i] = leaf
        return kernel(spec)(*arguments, **case.keywords)

    # Sampled directions instead of every element: a launch takes milliseconds here.
    torch.autograd.gradcheck(function, leaves, fast_mode=True)
    torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@over_cases(NATIVE)
@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_every_option_emulated(
    spec: OpSpec, case: Case, dtype: torch.dtype, emulated: ModuleType
) -> None:
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    runs = []
    for schedule in SCHEDULES:
        emulated.configure(*schedule)
        runs.append(forward_backward(kernel(spec), tensors, case.keywords, wanted))
    cotangent = normal_like(runs[0][0]).double()
    exact = forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent)
    for got, true in zip(runs[0], exact, strict=True):
        assert_close(got, true)
    for other in runs[1:]:
        for got, first in zip(other, runs[0], strict=True):
            assert torch.equal(got, first), "the result depends on the schedule: a race"


@over_ops(NATIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=short)
def test_as_exact_as_torch_emulated(spec: OpSpec, dtype: torch.dtype, emulated: ModuleType) -> None:
    """More than one block, vector loads and a ragged tail."""
    tensors, wanted = spec.tensors(spec.large, dtype), spec.differentiable(spec.large)
    emulated.configure("random", 3)
    got = forward_backward(kernel(spec), tensors, spec.large.keywords, wanted)
    cotangent = normal_like(got[0])
    arguments = (spec.large.keywords, wanted, cotangent)
    plain = forward_backward(spec.plain or spec.reference, tensors, *arguments)
    exact = forward_backward(
        spec.reference, in_fp64(tensors), spec.large.keywords, wanted, cotangent.double()
    )
    for i, items in enumerate(zip(got, plain, exact, strict=True)):
        assert_as_exact_as_torch(*items, f"result {i}")


@over_ops(NATIVE)
@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_views_and_empty_batches_emulated(
    spec: OpSpec, dtype: torch.dtype, emulated: ModuleType
) -> None:
    """Slices, expanded gradients and nothing at all."""
    wanted = spec.differentiable(spec.cases[0])
    tensors = spec.tensors(spec.cases[0], dtype)
    wide = [None if t is None else torch.stack([t, torch.full_like(t, torch.nan)], -1) for t in tensors]
    views = [None if t is None else t[..., 0] for t in wide]
    ones = torch.ones((), dtype=dtype)
    got = forward_backward(
        lambda *a, **k: kernel(spec)(*a, **k).sum(), views, spec.cases[0].keywords, wanted, ones
    )
    exact = forward_backward(
        lambda *a, **k: spec.reference(*a, **k).sum(),
        in_fp64(tensors), spec.cases[0].keywords, wanted, ones.double(),
    )  # fmt: skip
    for mine, true in zip(got[1:], exact[1:], strict=True):
        assert_close(mine, true)
    empty = spec.tensors(spec.empty, dtype)
    assert kernel(spec)(*empty, **spec.empty.keywords).numel() == 0
