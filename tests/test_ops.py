"""Every op: registration, exactness against the reference, derivatives, bad input."""

from __future__ import annotations

import re

import pytest
import torch
from checks import (
    assert_as_exact_as_torch,
    assert_close,
    deterministic,
    forward_backward,
    fp64_errors_allowed,
    in_fp64,
    largest,
    normal_like,
)
from contract import over_cases, over_ops, proves
from opspec import DIFFERENTIABLE, SPECS
from specs.base import FLOATS, Bad, Case, OpSpec

import genfast
from genfast.ops import _native

OPCHECKS = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]


def test_every_op_has_a_spec() -> None:
    public = {name for name in vars(genfast.ops) if callable(getattr(genfast.ops, name))}
    assert {spec.name for spec in SPECS} == public


def test_every_registered_op_is_checked() -> None:
    registered = {
        name.removeprefix("genfast::").partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("genfast::")
    }
    assert {op.name for spec in SPECS for op in (*spec.registered, *spec.cuda_only)} == registered


@over_cases()
def test_opcheck(spec: OpSpec, case: Case) -> None:
    """torch's own check of schema, fake and dispatch, of each op that stands under torch.ops."""
    dtypes = FLOATS if case is spec.cases[0] else FLOATS[:1]
    for dtype in dtypes:
        tensors = spec.tensors(case, dtype)
        for registered in spec.registered:
            op = getattr(torch.ops.genfast, registered.name).default
            arguments = registered.arguments(*tensors, **case.keywords)
            with deterministic(registered.leaves_memory):
                result = torch.library.opcheck(op, arguments, test_utils=OPCHECKS)
            assert set(result.values()) == {"SUCCESS"}


# ---- exactness -----------------------------------------------------------------------------------


def check_exactness(spec: OpSpec, dtype: torch.dtype) -> None:
    case, names = spec.large, ["output"]
    wanted = spec.differentiable(case)
    names += [f"gradient of {spec.arguments[i]}" for i in wanted]

    def results(function, tensors, dtype=dtype):
        cotangent = normal_like(spec.op(*spec.tensors(case, dtype), **case.keywords)).to(
            tensors[0].dtype
        )
        return forward_backward(function, tensors, case.keywords, wanted, cotangent)

    tensors = spec.tensors(case, dtype)
    mine, exact = results(spec.op, tensors), results(spec.reference, in_fp64(tensors))
    if dtype is not torch.float64:
        for items in zip(
            mine, results(spec.plain or spec.reference, tensors), exact, names, strict=True
        ):
            assert_as_exact_as_torch(*items)
        return
    plain = spec.plain or spec.reference
    allowed = fp64_errors_allowed(plain, spec.reference, tensors, case.keywords, wanted)
    for got, true, error, name in zip(mine, exact, allowed, names, strict=True):
        assert largest(got - true) <= error, name


@proves("forward", "backward")
def test_as_exact_as_torch(spec: OpSpec, dtype: torch.dtype) -> None:
    check_exactness(spec, dtype)


@proves("ISA levels")
def test_as_exact_as_torch_at_every_isa(spec: OpSpec, dtype: torch.dtype, isa: str) -> None:
    assert genfast._C.current_isa() == isa
    check_exactness(spec, dtype)


@over_cases()
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_option(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    mine = forward_backward(spec.op, tensors, case.keywords, wanted)
    exact = forward_backward(
        spec.reference, in_fp64(tensors), case.keywords, wanted, normal_like(mine[0]).double()
    )
    for got, true in zip(mine, exact, strict=True):
        assert_close(got, true)


# ---- derivatives ---------------------------------------------------------------------------------


def differentiable_call(spec: OpSpec, case: Case):
    tensors = spec.tensors(case, torch.float64)
    wanted = spec.differentiable(case)

    def call(*inputs):
        given = list(tensors)
        for i, value in zip(wanted, inputs, strict=True):
            given[i] = value
        return spec.op(*given, **case.keywords)

    return call, [tensors[i].requires_grad_() for i in wanted]


@over_cases(DIFFERENTIABLE)
def test_gradcheck(spec: OpSpec, case: Case) -> None:
    assert torch.autograd.gradcheck(*differentiable_call(spec, case))


@over_cases([spec for spec in SPECS if "double backward" in spec.claims])
def test_gradgradcheck(spec: OpSpec, case: Case) -> None:
    assert torch.autograd.gradgradcheck(*differentiable_call(spec, case))


@proves("double backward", every_case=True)
def test_second_derivatives(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    """The gradient of |first gradients|^2, against the reference in fp64."""
    wanted = spec.differentiable(case)

    def second(function, tensors):
        inputs = [tensors[i].requires_grad_() for i in wanted]
        y = function(*tensors, **case.keywords)
        first = torch.autograd.grad((y * y).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum((g * g).mean() for g in first), inputs)

    tensors = spec.tensors(case, dtype)
    exact = second(spec.reference, in_fp64(tensors))
    for got, true in zip(second(spec.op, tensors), exact, strict=True):
        assert got.dtype == dtype
        assert_close(got, true)


@over_ops(DIFFERENTIABLE)
def test_double_backward_is_claimed_or_refused(spec: OpSpec) -> None:
    call, inputs = differentiable_call(spec, spec.cases[0])
    gradients = torch.autograd.grad(call(*inputs).square().sum(), inputs, create_graph=True)
    refused = ""
    try:
        sum(gradient.square().sum() for gradient in gradients).backward()
    except RuntimeError as error:
        refused = str(error)
    assert bool(refused) == ("double backward" not in spec.claims)
    assert not refused or spec.name in refused


@over_cases(DIFFERENTIABLE)
def test_only_wanted_gradients(spec: OpSpec, case: Case) -> None:
    """An argument that alone asks for a gradient gets the one it gets with all the others."""
    tensors, every = spec.tensors(case, torch.float64), spec.differentiable(case)
    full = forward_backward(spec.op, tensors, case.keywords, every)[1:]
    for i, true in zip(every, full, strict=True):
        assert_close(forward_backward(spec.op, tensors, case.keywords, [i])[1], true)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "bad"),
    [pytest.param(spec, bad, id=f"{spec.name}-{bad.name}") for spec in SPECS for bad in spec.bad],
)
def test_bad_input_is_named(spec: OpSpec, bad: Bad) -> None:
    with pytest.raises(bad.error) as caught:
        bad.call(spec.op)
    assert caught.type is bad.error
    for words in bad.says:
        assert re.search(re.escape(words), str(caught.value)), f"{words!r} is not in {caught.value}"


@over_ops()
def test_bad_input_is_named_under_compile(spec: OpSpec) -> None:
    """The checks run while tracing too: a wrong shape is never left to a kernel."""
    bad = next(bad for bad in spec.bad if bad.error is ValueError)
    # torch 2.4 says "Observed exception" for whatever the traced code raises.
    says = "Observed exception" if _native.TORCH_2_4 else re.escape(bad.says[0].strip())
    with pytest.raises(Exception, match=says):
        torch.compile(lambda: bad.call(spec.op), fullgraph=True, backend="eager")()
