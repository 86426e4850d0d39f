"""Every op under vmap, torch.func, torch.compile, torch.export and autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from checks import assert_close, forward_backward, in_fp64, normal_like
from contract import over_cases, over_ops, proves
from opspec import DIFFERENTIABLE, SPECS
from specs.base import Case, OpSpec
from torch import Tensor

BATCH = 3

# torch 2.4 knows no batching rules of other libraries' ops: it loops, and says so.
may_loop = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")

# ---- vmap and torch.func -------------------------------------------------------------------------


def pick(results: Any, i: int) -> Any:
    return results[i] if isinstance(results, Tensor) else tuple(r[i] for r in results)


def assert_all_close(got: Any, expected: Any) -> None:
    if isinstance(got, Tensor):
        got, expected = (got,), (expected,)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b.double())


def batchings(given: list[int], count: int) -> list[tuple[int | None, ...]]:
    """in_dims for vmap: every tensor batched, each alone, and the batch dimension last."""
    every: list[tuple[int | None, ...]] = [tuple(0 if i in given else None for i in range(count))]
    every += [tuple(0 if i == one else None for i in range(count)) for one in given]
    every.append(tuple(-1 if i in given else None for i in range(count)))
    return list(dict.fromkeys(every))


def batched(spec: OpSpec, case: Case, dtype: torch.dtype, in_dims: tuple[int | None, ...]):
    """The tensors to vmap over, and those of each of its iterations."""
    samples = [spec.tensors(case, dtype, seed=seed) for seed in range(BATCH)]
    arguments = [
        t if dim is None else torch.stack([sample[i] for sample in samples], dim)
        for i, (t, dim) in enumerate(zip(samples[0], in_dims, strict=True))
    ]
    singles = [
        [samples[0][i] if dim is None else sample[i] for i, dim in enumerate(in_dims)]
        for sample in samples
    ]
    return arguments, singles


def check_vmap(
    function: Callable[..., Any],
    spec: OpSpec,
    case: Case,
    dtype: torch.dtype,
    dims: tuple[int | None, ...],
) -> None:
    arguments, singles = batched(spec, case, dtype, dims)
    together = torch.vmap(function, in_dims=dims)(*arguments)
    for i, single in enumerate(singles):
        assert_all_close(pick(together, i), function(*single))


@may_loop
@proves("vmap", every_case=True)
def test_vmap(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    def function(*tensors):
        return spec.op(*tensors, **case.keywords)

    given = [i for i, shape in enumerate(case.shapes) if shape is not None]
    for dims in batchings(given, len(case.shapes)):
        check_vmap(function, spec, case, dtype, dims)


@may_loop
@proves("vmap", given="backward", every_case=True)
def test_vmap_of_the_gradient(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    """Per-sample gradients, as differential privacy takes them."""
    wanted = tuple(spec.differentiable(case))

    cotangent = normal_like(spec.op(*spec.tensors(case, dtype), **case.keywords))

    def loss(*tensors):
        return (spec.op(*tensors, **case.keywords) * cotangent).sum()

    given = [i for i, shape in enumerate(case.shapes) if shape is not None]
    for dims in batchings(given, len(case.shapes)):
        check_vmap(torch.func.grad(loss, argnums=wanted), spec, case, dtype, dims)


@may_loop
@over_cases(DIFFERENTIABLE)
def test_gradient_of_vmap(spec: OpSpec, case: Case) -> None:
    wanted = spec.differentiable(case)
    dims = tuple(None if shape is None else 0 for shape in case.shapes)
    arguments, singles = batched(spec, case, torch.float64, dims)

    def function(*tensors):
        return torch.vmap(lambda *t: spec.op(*t, **case.keywords), in_dims=dims)(*tensors)

    together = forward_backward(function, arguments, {}, wanted)
    cotangents = normal_like(together[0])
    for i, single in enumerate(singles):
        expected = forward_backward(spec.op, single, case.keywords, wanted, cotangents[i])
        assert_all_close(tuple(t[i] for t in together), tuple(expected))


@may_loop
@over_ops(DIFFERENTIABLE)
def test_second_derivatives_of_torch_func(spec: OpSpec) -> None:
    """jacrev of jacrev: vmap of the backward's backward."""
    case = spec.cases[0]
    tensors = spec.tensors(case, torch.float64)

    def of_x(function):
        return torch.func.jacrev(
            torch.func.jacrev(lambda x: function(x, *tensors[1:], **case.keywords).square().sum())
        )(tensors[0])

    assert_close(of_x(spec.op), of_x(spec.reference))


# ---- compile and export --------------------------------------------------------------------------


def check_compiled(
    spec: OpSpec, case: Case, dtype: torch.dtype, compiled: Callable[..., Tensor], seed: int = 0
) -> None:
    tensors, wanted = spec.tensors(case, dtype, seed=seed), spec.differentiable(case)
    eager = forward_backward(spec.op, tensors, case.keywords, wanted)
    got = forward_backward(compiled, tensors, case.keywords, wanted)
    assert_all_close(tuple(got), tuple(eager))
    with torch.no_grad():
        assert_close(compiled(*tensors, **case.keywords), eager[0].double())


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@proves("fullgraph", every_case=True)
def test_fullgraph(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    """Dynamo and AOTAutograd, forward and backward, without the code generator."""
    compiled = torch.compile(spec.op, fullgraph=True, backend="aot_eager", dynamic=False)
    check_compiled(spec, case, dtype, compiled)


@pytest.mark.usefixtures("fresh_compiler")
@over_ops()
def test_inductor(spec: OpSpec) -> None:
    """The default compiler, between operations that it fuses with."""

    def around(*tensors, **keywords):
        first = tensors[0] * 2
        return spec.op(first, *tensors[1:], **keywords).sin()

    case, dtype = spec.cases[0], torch.float32
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    compiled = torch.compile(around, fullgraph=True)
    try:
        got = forward_backward(compiled, tensors, case.keywords, wanted)
    except Exception as error:
        cropped = spec.name in ("masked_conv2d", "gated_masked_conv2d")
        if cropped and torch.__version__.startswith("2.11.") and "CppCompileError" in str(error):
            pytest.xfail("torch 2.11 writes C++ for the kernel's small crop that does not compile")
        raise
    assert_all_close(tuple(got), tuple(forward_backward(around, tensors, case.keywords, wanted)))


@pytest.mark.usefixtures("fresh_compiler")
@over_ops()
def test_fullgraph_with_dynamic_shapes(spec: OpSpec) -> None:
    """One compilation serves several batch sizes and image sizes."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(spec.op, fullgraph=True, backend=counter, dynamic=True)
    case = spec.cases[0]
    # Sizes that are equal at first are taken for equal for ever, hence primes; and torch's convolution
    # itself is compiled apart for batches of less than 16.
    compilations = []
    for batch, grow in ((19, 10), (29, 20), (17, 26)):
        check_compiled(spec, spec.resized(case, batch, grow), torch.float32, compiled)
        compilations.append(counter.frame_count)
    # With gradients, and without; and dynamo starts once more when numbers turn out to be constants.
    assert compilations[0] <= 3
    assert compilations[-1] == compilations[0]


# What torch 2.4 says of every op that is registered and of every constant that it lifts.
@pytest.mark.filterwarnings("ignore:At pre-dispatch tracing:UserWarning")
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@pytest.mark.filterwarnings("ignore:Node .* does not reference an nn.Module:UserWarning")
@proves("export")
def test_export(spec: OpSpec, dtype: torch.dtype) -> None:
    case = spec.cases[0]

    class Model(torch.nn.Module):
        def forward(self, *tensors):
            return spec.op(*tensors, **case.keywords)

    tensors = tuple(spec.tensors(case, dtype))
    any_batch = {0: torch.export.Dim("batch")}
    dynamic = (any_batch, *(any_batch if name in spec.tied else None for name in spec.arguments[1:]))
    program = torch.export.export(Model(), tensors, dynamic_shapes={"tensors": dynamic})
    for batch in (2, 5):
        inputs = spec.tensors(spec.resized(case, batch), dtype)
        assert_close(program.module()(*inputs), spec.op(*inputs, **case.keywords).double())
    called = {str(node.target) for node in program.graph.nodes}
    for registered in spec.registered[:1]:
        assert f"genfast.{registered.name}.default" in called


# ---- autocast ------------------------------------------------------------------------------------


@proves("autocast", every_case=True)
def test_autocast(spec: OpSpec, case: Case, dtype: torch.dtype) -> None:
    """The dtype of the result, and gradients in the dtype of their arguments."""
    tensors, wanted = spec.tensors(case, dtype), spec.differentiable(case)
    expected = spec.under_autocast(dtype)

    def function(*given, **keywords):
        with torch.autocast("cpu", torch.bfloat16):
            return spec.op(*given, **keywords)

    y, *gradients = forward_backward(function, tensors, case.keywords, wanted)
    assert y.dtype == expected
    for i, gradient in zip(wanted, gradients, strict=True):
        assert gradient.dtype == dtype, spec.arguments[i]
    exact = spec.reference(*in_fp64(tensors), **case.keywords)
    lowest = torch.finfo(expected).eps if dtype is torch.float16 else torch.finfo(y.dtype).eps
    assert (y.double() - exact).abs().max() <= 8 * lowest * (1 + exact.abs().max())


@over_ops([spec for spec in SPECS if spec.one_dtype])
def test_autocast_takes_mixed_dtypes(spec: OpSpec) -> None:
    """What raises outside: x from a convolution under autocast (bf16), the rest of the model fp32."""
    case = next(case for case in spec.cases if case.shapes[1] is not None)
    tensors = spec.tensors(case, torch.float32)
    tensors[0] = tensors[0].bfloat16()
    with pytest.raises(TypeError, match="autocast"):
        spec.op(*tensors, **case.keywords)
    with torch.autocast("cpu", torch.bfloat16):
        y = spec.op(*tensors, **case.keywords)
    assert y.dtype is spec.under_autocast(torch.bfloat16)
    exact = spec.reference(*in_fp64(tensors), **case.keywords)
    assert (y.double() - exact).abs().max() <= 0.06 * (1 + exact.abs().max())
