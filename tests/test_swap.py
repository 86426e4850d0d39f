"""genfast.swap and genfast.verify on modules built as people and public ports build theirs."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest
import swap_modules as plain
import torch
from swap_modules import left_reason, raster, results
from torch import nn

import genfast
from genfast.swapping import inline_gate, twin
from genfast.swapping.proof import copied
from genfast.swapping.twin import Twin

# The ports' weight norm is the one that torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def masked_stack():
    return nn.Sequential(
        plain.InPlaceMasked(raster(7, 7, False), 1, 8),
        nn.ReLU(),
        plain.ProductMasked(raster(3, 3, True), 8, 8, bias=False),
        plain.PlainAttributeMask(8, 12, (1, 5), padding=(0, 2)),
        plain.SliceGate(),
    )


#: Model, input sizes, number of modules that must be replaced.
MODELS = {
    "masked": (masked_stack, [(2, 1, 6, 5)], 4),
    "two stacks": (plain.TwoStacksNet, [(2, 1, 6, 5)], 8),
    "port, halves aligned": (lambda: plain.PortNet(6), [(2, 3, 6, 5), "labels"], 20),
    "port, halves misaligned": (lambda: plain.PortNet(4), [(2, 3, 6, 5), "labels"], 20),
    "separable": (lambda: plain.SeparableNet(4, 2), [(2, 1, 6, 5)], 3),
    "helper": (lambda: plain.WithHelper(4), [(2, 4, 3, 3), (2, 8, 1, 1)], 1),
    "pixelcnn++": (plain.PortPP, [(2, 3, 8, 4)], 46),
}


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    model, sizes, count = MODELS[name]
    inputs = [torch.tensor([3, 1]) if s == "labels" else torch.randn(s, dtype=dtype) for s in sizes]
    return model().to(dtype).eval(), inputs, count


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


# ---- structure ----------------------------------------------------------------------------------------


def test_a_module_used_twice_stays_one():
    conv = plain.InPlaceMasked(raster(3, 3, True), 4, 4).double()
    model = nn.Sequential(conv, nn.ModuleList([conv])[0], nn.Sequential(nn.ReLU(), conv))
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    wanted = model(x)
    assert len(genfast.swap(model).replaced) == 1
    assert model[0] is model[1] is model[2][1] is conv
    torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)


def test_a_convolution_that_two_modules_own_is_left_alone():
    first, second = plain.PaddedConv(2, 2), plain.PaddedConv(2, 2)
    second.conv = first.conv
    report = genfast.swap(nn.ModuleList([first, second]))
    assert not report.replaced
    assert "also part of another module" in report.left[0].reason


def test_what_no_pattern_fits_is_named():
    class Own(nn.Module):
        def forward(self, x):
            return 2 * x

    model = nn.Sequential(nn.Conv2d(1, 1, 1), Own(), nn.Tanh())
    report = genfast.swap(model)
    assert [(left.name, left.module, left.reason) for left in report.left] == [
        ("1", "Own", "no pattern fits")
    ]
    assert "left alone: 1: Own: no pattern fits" in str(report)


def test_a_forward_set_on_the_object_is_left_alone():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    conv.forward = lambda x: x
    assert "set on the object" in left_reason(conv)


def test_what_cannot_be_copied_is_left_alone():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    conv.stream = (i for i in range(3))
    assert "cannot be copied" in left_reason(conv)


def test_frozen_parameters_stay_frozen():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2).requires_grad_(False)
    genfast.swap(conv)
    assert isinstance(conv, Twin)
    assert not any(p.requires_grad for p in conv.parameters())


def test_neither_random_numbers_nor_gradients_change():
    model, inputs, _ = made("two stacks", torch.float32)
    model(*inputs).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    genfast.swap(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_convolutions_derived_from_torch_s():
    torch.manual_seed(0)
    model = nn.Sequential(
        plain.ShiftedSubclass(2, 4, (2, 3), stride=2),
        plain.ShiftedSubclass(4, 4, (2, 2), right=True),
        plain.ShiftedTransposedSubclass(4, 2, (2, 3), stride=2),
    ).double()
    x = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    wanted = model(x)
    report = genfast.swap(model)
    assert [entry.twin for entry in report.replaced] == [
        "shifted_conv2d, down",
        "shifted_conv2d, down_right",
        "shifted_conv_transpose2d, down",
    ]
    torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)


def test_the_two_views_of_a_cropped_pair_stay_views_of_one_tensor():
    pair = plain.CroppedPair(2, 2, (2, 3), padding=(2, 1))
    genfast.swap(pair)
    own, above = pair(torch.randn(1, 2, 4, 4))
    own.data.fill_(7)
    assert (above[:, :, 1:] == 7).all()


@pytest.mark.parametrize("context", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")])
def test_the_proof_is_the_same_in_any_context(context):
    model, inputs, count = made("masked", torch.float32)
    with context:
        report = genfast.swap(model)
    assert len(report.replaced) == count, report
    model(*inputs).sum().backward()


def test_a_pickle_without_the_source_says_so(monkeypatch):
    model = plain.WithHelper(2)
    genfast.swap(model)
    pickled = pickle.dumps(model)

    def no_source(_):
        raise OSError

    monkeypatch.setattr(inspect, "findsource", no_source)
    inline_gate._fused.cache_clear()
    monkeypatch.setattr(twin, "_classes", {})
    with pytest.raises(RuntimeError, match=r"WithHelper was pickled with fused gates.*genfast\.unswap"):
        pickle.loads(pickled)


def test_import_is_lazy():
    code = "import sys, genfast; assert not any('swapping' in m for m in sys.modules); genfast.swap"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"swap", "unswap", "verify"} <= set(dir(genfast))


@pytest.mark.parametrize("function", [genfast.swap, genfast.unswap, lambda m: genfast.verify(m, 1)])
def test_something_else_than_a_module_raises(function):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        function(3)
