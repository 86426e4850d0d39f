"""Every op: which memory it reads and writes, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from checks import assert_close, forward_backward, in_fp64, normal_like
from contract import over_cases, proves
from hypothesis import given
from hypothesis import strategies as st
from opspec import DIFFERENTIABLE
from specs.base import FLOATS, Case, OpSpec
from torch import Tensor

NAN = float("nan")

# ---- strides -------------------------------------------------------------------------------------


def permuted(t: Tensor, order: list[int]) -> Tensor:
    """The same numbers, stored with the dimensions in another order."""
    stored = t.permute(order).contiguous()
    return stored.permute([order.index(d) for d in range(t.ndim)])


def sliced(t: Tensor, dim: int, step: int, offset: int) -> Tensor:
    """The same numbers as every step-th entry of a buffer that is NaN (of integers, -1) elsewhere."""
    shape = list(t.shape)
    shape[dim] = offset + step * t.shape[dim] + 1
    buffer = t.new_full(shape, NAN if t.is_floating_point() else -1)
    view = buffer[(slice(None),) * dim + (slice(offset, offset + step * t.shape[dim], step),)]
    return view.copy_(t)


def expanded(t: Tensor, dim: int) -> Tensor:
    """Other numbers: the first entry along a dimension, repeated with stride 0."""
    return t.narrow(dim, 0, 1).expand(t.shape) if t.shape[dim] else t


def negated_lazily(t: Tensor) -> Tensor:
    """The same numbers as a view whose memory holds their negatives, as torch.conj().imag returns."""
    return torch._neg_view(-t)


@st.composite
def layouts(draw: st.DrawFn, ndim: int) -> Callable[[Tensor], Tensor]:
    """A change of strides for tensors of `ndim` dimensions."""
    if ndim == 0:
        return lambda t: t
    dim, kind = (
        draw(st.integers(0, ndim - 1)),
        draw(st.sampled_from(["contiguous", "permute", "slice", "expand", "negate"])),
    )
    if kind == "permute":
        order = draw(st.permutations(range(ndim)))
        return lambda t: permuted(t, list(order))
    if kind == "slice":
        step, offset = draw(st.integers(1, 3)), draw(st.integers(0, 3))
        order = draw(st.permutations(range(ndim)))
        return lambda t: sliced(permuted(t, list(order)), dim, step, offset)
    return {
        "contiguous": Tensor.contiguous,
        "expand": lambda t: expanded(t, dim),
        "negate": negated_lazily,
    }[kind]


def test_layouts_keep_the_numbers() -> None:
    t = torch.randn(2, 3, 4)
    for same in (permuted(t, [2, 0, 1]), sliced(t, 1, 3, 2), negated_lazily(t)):
        assert torch.equal(same, t)
    assert permuted(t, [2, 0, 1]).stride() == (3, 1, 6)
    assert sliced(t, 1, 3, 2).stride() == (48, 12, 1)
    assert sliced(t, 1, 3, 2).storage_offset() == 8
    assert expanded(t, 1).stride() == (12, 0, 1)


@proves("any strides", "empty batch")
@given(data=st.data())
def test_shapes_and_strides(spec: OpSpec, dtype: torch.dtype, data: st.DataObject) -> None:
    """Drawn shapes (empty ones too), and drawn strides for every input and for the gradient."""
    case = data.draw(spec.draw, label="case")
    tensors = [
        None if t is None else data.draw(layouts(t.ndim), label="layout")(t)
        for t in spec.tensors(case, dtype)
    ]
    y = spec.op(*tensors, **case.keywords)
    if data.draw(st.booleans(), label="sum"):
        cotangent = y.new_ones(()).expand(y.shape)  # what y.sum().backward() hands on
    else:
        cotangent = data.draw(layouts(y.ndim), label="layout of the gradient")(normal_like(y))
    wanted = spec.differentiable(case)
    mine = forward_backward(spec.op, tensors, case.keywords, wanted, cotangent)
    exact = forward_backward(
        spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent.double().contiguous()
    )
    for got, true in zip(mine, exact, strict=True):
        assert_close(got, true)


@proves("any strides", given="backward", every_case=True)
def test_sum_backward(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    """The gradient of a sum is one number, expanded; a kernel that takes it for dense memory fails."""
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    for i in wanted:
        tensors[i].requires_grad_()
    y = spec.op(*tensors, **case.keywords)
    y.sum().backward()
    ones = torch.ones(y.shape, dtype=torch.float64)
    exact = forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, ones)[1:]
    for i, true in zip(wanted, exact, strict=True):
        assert_close(tensors[i].grad, true)


@proves("any strides")
def test_channels_last(spec: OpSpec, dtype: torch.dtype) -> None:
    """Channels-last goes in and comes out, with the numbers of the contiguous layout."""
    images = [case for case in spec.cases if len(case.shapes[0]) == 4]
    assert bool(images) == spec.images
    for case in images:
        plain, wanted = spec.tensors(case, dtype), spec.differentiable(case)
        tensors = [plain[0].to(memory_format=torch.channels_last), *plain[1:]]
        mine = forward_backward(spec.op, tensors, case.keywords, wanted)
        if mine[0].ndim == 4:
            assert mine[0].stride(1) == 1  # perhaps cut out of a larger one, so not always dense
        cotangent = normal_like(mine[0]).double().contiguous()
        exact = forward_backward(spec.reference, in_fp64(plain), case.keywords, wanted, cotangent)
        for got, true in zip(mine, exact, strict=True):
            assert_close(got, true)


@proves("empty batch")
def test_empty_batch(spec: OpSpec, dtype: torch.dtype) -> None:
    case, wanted = spec.empty, spec.differentiable(spec.empty)
    tensors = spec.tensors(case, dtype)
    y, *gradients = forward_backward(spec.op, tensors, case.keywords, wanted)
    assert y.shape == spec.reference(*tensors, **case.keywords).shape
    assert y.numel() == 0
    assert y.dtype == dtype
    for i, gradient in zip(wanted, gradients, strict=True):
        assert torch.equal(gradient, torch.zeros_like(tensors[i]))


@proves("64-bit addresses", dtypes=[torch.bfloat16, torch.float16])
def test_addresses_beyond_32_bits(spec: OpSpec, dtype: torch.dtype) -> None:
    """Entries 2^31 elements apart in 4 GiB of address space, of which a few pages are ever touched."""
    case = spec.cases[0]
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    x = tensors[0]
    far = 2**31 // (x.shape[0] - 1)
    inner = x[0].numel()
    memory = torch.empty((x.shape[0] - 1) * far + inner, dtype=dtype)
    tensors[0] = memory.as_strided(x.shape, (far, *x[0].stride())).copy_(x)
    mine = forward_backward(spec.op, tensors, case.keywords, wanted)
    exact = forward_backward(
        spec.reference, in_fp64(tensors), case.keywords, wanted, normal_like(mine[0]).double()
    )
    for got, true in zip(mine, exact, strict=True):
        assert_close(got, true)


# ---- what is written, and what is left alone -----------------------------------------------------


@over_cases()
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.usefixtures("poisoned")
def test_nothing_uninitialised_comes_out(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    assert torch.empty(1).isnan().all()
    assert torch.empty(1).new_empty(1).isnan().all()
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    for result in forward_backward(spec.op, tensors, case.keywords, wanted):
        assert result.isfinite().all()


@over_cases(DIFFERENTIABLE)
@pytest.mark.usefixtures("poisoned")
def test_nothing_uninitialised_enters_second_derivatives(spec: OpSpec, case: Case) -> None:
    tensors, wanted = spec.tensors(case, torch.float32), spec.differentiable(case)
    inputs = [tensors[i].requires_grad_() for i in wanted]
    y = spec.op(*tensors, **case.keywords)
    first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
    assert all(result.isfinite().all() for result in (*first, *second))


@over_cases()
def test_inputs_are_left_alone(spec: OpSpec, case: Case) -> None:
    tensors, wanted = spec.tensors(case, torch.float32), spec.differentiable(case)
    for i in wanted:
        tensors[i].requires_grad_()
    given = [t for t in tensors if t is not None]
    before = [(t._version, t.detach().clone()) for t in given]
    y = spec.op(*tensors, **case.keywords)
    cotangent = normal_like(y)
    kept = cotangent.clone()
    if wanted:
        y.backward(cotangent)
    for t, (version, values) in zip(given, before, strict=True):
        assert t._version == version
        assert torch.equal(t, values)
    assert torch.equal(cotangent, kept)
    assert all(y.data_ptr() != t.data_ptr() for t in given)


@over_cases()
def test_ignored_elements_have_no_influence(spec: OpSpec, case: Case) -> None:
    """NaN in what the op says it ignores changes nothing and gets a gradient of exactly zero."""
    if spec.ignored is None:
        ignored = {}
    else:
        ignored = spec.ignored(case)
        assert any(mask.any() for mask in ignored.values()), "the case ignores nothing"
    tensors, wanted = spec.tensors(case, torch.float32), spec.differentiable(case)
    poisoned = [
        t.masked_fill(ignored[name], NAN) if name in ignored else t
        for name, t in zip(spec.arguments, tensors, strict=True)
    ]
    plain = forward_backward(spec.op, tensors, case.keywords, wanted)
    for got, expected in zip(
        forward_backward(spec.op, poisoned, case.keywords, wanted), plain, strict=True
    ):
        assert torch.equal(got, expected)
    for i, gradient in zip(wanted, plain[1:], strict=True):
        if spec.arguments[i] in ignored:
            assert (gradient[ignored[spec.arguments[i]]] == 0).all()
