"""genfast.swap and genfast.verify on modules built as people and public ports build theirs."""

from __future__ import annotations

import pickle

import pytest
import torch
from swap_models import MODELS, made
from swap_modules import results

import genfast
from genfast.swapping.proof import copied

# The ports' weight norm is the one that torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def dead_taps(model):
    """The weights' dead taps, by the name of the weight, from the masks that the modules hold."""
    dead = {}
    for prefix, module in model.named_modules():
        for mask in (getattr(module, name, None) for name in ("mask", "pattern", "allowed")):
            if mask is not None:
                name = "inner.weight" if hasattr(module, "inner") else "weight"
                full = f"{prefix}.{name}".removeprefix(".")
                dead[full] = (mask == 0).expand_as(model.get_parameter(full))
    return dead


each = pytest.mark.parametrize("name", MODELS)


@each
def test_outputs_and_gradients_are_the_same_in_fp64(name):
    model, inputs, count = made(name)
    before = copied(model)
    report = genfast.swap(model)
    assert len(report.replaced) == count, report
    wanted, wanted_gradients = results(before, inputs)
    got, gradients = results(model, inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert gradients.keys() == wanted_gradients.keys()
    dead = dead_taps(before)
    for key, gradient in gradients.items():
        wanted = wanted_gradients[key]
        if key in dead:
            assert not gradient[dead[key]].any()
            wanted = wanted.masked_fill(dead[key], 0)
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)


@each
def test_state_dict_parameters_mode_and_modules_stay(name):
    model, _, _ = made(name)
    model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters, modules = list(model.parameters()), list(model.modules())
    classes = [type(m) for m in modules]
    genfast.swap(model)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert all(m.training for m in modules)
    assert all(isinstance(m, cls) for m, cls in zip(modules, classes, strict=True))


@each
def test_state_dicts_load_both_ways(name):
    model, inputs, _ = made(name)
    before = copied(model)
    genfast.swap(model)
    torch.manual_seed(1)
    other = copied(before)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    model.load_state_dict(other.state_dict())
    wanted, got = other(*inputs), model(*inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    before.load_state_dict(model.state_dict())
    torch.testing.assert_close(before(*inputs), wanted, rtol=1e-12, atol=1e-12)


@each
def test_an_optimiser_goes_on(name):
    model, inputs, _ = made(name)
    fast = copied(model)
    optimisers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, fast)]
    for step in range(4):
        if step == 2:
            genfast.swap(fast)
        for m, optimiser in zip((model, fast), optimisers, strict=True):
            optimiser.zero_grad()
            m(*inputs).square().mean().backward()
            optimiser.step()
    # The plain weight is masked again by the next forward only.
    torch.testing.assert_close(fast(*inputs), model(*inputs), rtol=1e-9, atol=1e-9)


@each
def test_swapping_again_does_nothing(name):
    model, _, count = made(name)
    genfast.swap(model)
    classes = [type(m) for m in model.modules()]
    report = genfast.swap(model)
    assert not report.replaced
    assert len(report.already) >= count
    assert [type(m) for m in model.modules()] == classes


@each
def test_unswap_gives_everything_back(name):
    model, inputs, _ = made(name)
    classes = [type(m) for m in model.modules()]
    attributes = [set(vars(m)) for m in model.modules()]
    wanted = model(*inputs)
    genfast.swap(model)
    genfast.unswap(model)
    assert [type(m) for m in model.modules()] == classes
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert torch.equal(model(*inputs), wanted)


@each
def test_copies_and_pickles_are_swapped_too(name):
    model, inputs, _ = made(name)
    genfast.swap(model)
    wanted = model(*inputs)
    for again in (copied(model), pickle.loads(pickle.dumps(copied(model)))):
        assert [type(m) for m in again.modules()] == [type(m) for m in model.modules()]
        assert torch.equal(again(*inputs), wanted)


@pytest.mark.parametrize("name", ["masked", "two stacks", "port, halves aligned", "separable", "helper"])
def test_a_swapped_model_compiles_whole(name):
    model, inputs, _ = made(name)
    genfast.swap(model)
    wanted, gradients = results(model, inputs)
    torch._dynamo.reset()
    got, compiled = results(torch.compile(model, fullgraph=True, backend="aot_eager"), inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    for key, gradient in compiled.items():
        torch.testing.assert_close(
            gradient, gradients[key.removeprefix("_orig_mod.")], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_and_autocast(dtype):
    model, inputs, _ = made("masked", torch.float32)
    exact = copied(model).double()(*(x.double() for x in inputs))
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        wanted = model(*inputs)
        genfast.swap(model)
        got = model(*inputs)
    assert got.dtype == wanted.dtype
    error, allowed = (got - exact).abs().max(), (wanted - exact).abs().max()
    assert error <= 2 * allowed
