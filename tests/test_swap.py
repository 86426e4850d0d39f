"""genfast.swap and genfast.verify on modules built as people and public ports build theirs."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import swap_modules as plain
import torch
from swap_modules import raster
from torch import nn

import genfast
from genfast.reference import causal_mask
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


def results(model, inputs):
    """The output, and the gradients of parameters and floating-point inputs by name."""
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = model(*inputs)
    y = y if isinstance(y, torch.Tensor) else y[0]
    wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
    wanted |= {f"input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
    weights = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()
    found = torch.autograd.grad((y * weights).sum(), list(wanted.values()), allow_unused=True)
    return y.detach(), {n: g for n, g in zip(wanted, found, strict=True) if g is not None}


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
    twin = copied(model)
    optimisers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, twin)]
    for step in range(4):
        if step == 2:
            genfast.swap(twin)
        for m, optimiser in zip((model, twin), optimisers, strict=True):
            optimiser.zero_grad()
            m(*inputs).square().mean().backward()
            optimiser.step()
    # The plain weight is masked again by the next forward only.
    torch.testing.assert_close(twin(*inputs), model(*inputs), rtol=1e-9, atol=1e-9)


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


# ---- which masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [plain.InPlaceMasked, plain.ProductMasked])
@pytest.mark.parametrize(
    ("mask_type", "colors", "out_splits"),
    [("A", 1, 1), ("B", 1, 1), ("A", 3, 1), ("B", 3, 2), ("B", 2, 4)],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 3), (5, 3)])
def test_genfast_s_own_masks_are_found(form, mask_type, colors, out_splits, size):
    mask = causal_mask((16, 5, *size), mask_type, colors, out_splits)
    if not mask.any():
        return
    conv = form(mask, 5, 16)
    genfast.swap(conv)
    named = conv.genfast_plan.ours
    assert torch.equal(causal_mask((16, 5, *size), *named), mask)


OTHERS = {
    "colour = channel % 3": plain.interleaved(torch.ones(8, 6, 1, 1), 3, False),
    "colour = channel % 3, 3x3": plain.interleaved(raster(3, 3, True).expand(9, 6, 3, 3), 3, True),
    "rows above": torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 0]]),
    "rows up to its own": torch.tensor([[1.0, 1, 1], [1, 1, 1], [0, 0, 0]]),
    "the pixel above": torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]),
    "a centre row of zeros": torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]]),
    "scattered": torch.tensor([[1.0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0]] + 2 * [[0] * 5]),
}


@pytest.mark.parametrize("mask", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize(
    "keywords",
    [{}, {"stride": 2}, {"dilation": 2}, {"padding": "same"}, {"padding": (4, 0)}, {"groups": 2}],
)
def test_every_causal_mask_is_kept_exactly(mask, keywords):
    o, i = mask.shape[:2] if mask.ndim == 4 else (8, 6)
    if "groups" in keywords and (mask.ndim == 4 or o % 2):
        return  # a mask of groups has fewer channels
    torch.manual_seed(0)
    conv = plain.InPlaceMasked(mask, i, o, **keywords).double()
    before = copy.deepcopy(conv)
    report = genfast.swap(conv)
    assert len(report.replaced) == 1, report
    for size in ((2, i, 9, 8), (i, 6, 7), (1, i, 5, 5)):
        x = torch.randn(size, dtype=torch.float64)
        (wanted, wanted_gradients), (got, gradients) = results(before, [x]), results(conv, [x])
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
        wanted_gradients["weight"] *= before.mask
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted_gradients[key], rtol=1e-12, atol=1e-12)


def test_a_misaligned_mask_is_said_to_be_one():
    model, _, _ = made("port, halves misaligned")
    notes = {entry.name: entry.note for entry in genfast.swap(model).replaced}
    assert "halves of its 8 outputs differ in colour" in notes["blocks.0.h_conv"]
    aligned, _, _ = made("port, halves aligned")
    notes = {entry.name: entry.note for entry in genfast.swap(aligned).replaced}
    assert "differ in colour" not in notes["blocks.0.h_conv"]
    assert "channel % 3" in notes["blocks.0.h_conv"]


WRONG = {
    "below": torch.ones(3, 3),
    "right": torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0]]),
    "right in its row": torch.tensor([[1.0, 1, 1, 1, 1]] * 2 + [[1, 1, 1, 1, 0]] + [[0] * 5] * 2),
    "row kernel": torch.ones(1, 3),
}


@pytest.mark.parametrize("mask", WRONG.values(), ids=WRONG.keys())
def test_a_mask_that_is_not_causal_is_left_alone(mask):
    conv = plain.InPlaceMasked(mask, 2, 2)
    report = genfast.swap(conv)
    assert not report.replaced
    assert type(conv) is plain.InPlaceMasked
    assert "not causal" in report.left[0].reason


def left_reason(module):
    before = type(module)
    report = genfast.swap(module)
    assert not report.replaced
    assert type(module) is before
    return report.left[0].reason


def test_a_mask_that_is_not_used_is_noticed():
    assert "its output 0 differs" in left_reason(plain.UnusedMask(raster(3, 3, True), 2, 2))


def test_gradients_are_compared_too():
    class NoGradient(plain.ProductMasked):
        def forward(self, x):
            return super().forward(x).detach() + 0 * super().forward(x)

    assert "gradient" in left_reason(NoGradient(raster(3, 3, True), 2, 2))


def test_zero_weights_do_not_hide_a_difference():
    conv = plain.UnusedMask(raster(3, 3, True), 2, 2)
    nn.init.zeros_(conv.weight)
    assert "differs" in left_reason(conv)
    assert not conv.weight.any()


def test_a_mask_that_is_loaded_later_is_followed():
    torch.manual_seed(0)
    first, second = (plain.InPlaceMasked(raster(3, 3, c), 2, 2) for c in (False, True))
    genfast.swap(first)
    x = torch.randn(1, 2, 4, 4)
    first.load_state_dict(second.state_dict())
    torch.testing.assert_close(first(x), second(x))


@pytest.mark.parametrize("keywords", [{"padding_mode": "circular"}])
def test_padding_that_is_not_zeros_is_left_alone(keywords):
    assert "padding_mode" in left_reason(plain.InPlaceMasked(raster(3, 3, True), 2, 2, **keywords))


def test_hooks_of_an_inner_convolution_are_not_lost():
    wrapper = plain.MaskedWrapper(2, 2, raster(3, 3, True))
    wrapper.inner.register_forward_hook(lambda *_: None)
    assert "hooks" in left_reason(wrapper)
    padded = plain.PaddedConv(2, 2)
    padded.conv.register_forward_pre_hook(lambda *_: None)
    assert "its conv has hooks" in left_reason(padded)


def test_hooks_go_on_and_see_no_probe():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    seen = []
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    genfast.swap(conv)
    conv(torch.randn(1, 2, 4, 4))
    assert seen == [(1, 2, 4, 4)]


# ---- gates ------------------------------------------------------------------------------------------


def test_a_gate_in_another_order_is_left_alone():
    assert left_reason(plain.ReversedGate()).startswith("its tanh and sigmoid are not")


class ManyForms(nn.Module):
    """Each way of writing a gate that is found, and some that look like one and are none."""

    def forward(self, x, mode):
        a, b = x.split(x.shape[1] // 2, 1)
        if mode == "in a branch":
            return a.tanh() * torch.sigmoid(b)
        if mode == "assigned since":
            a = a + 1
            return torch.tanh(a) * torch.sigmoid(b)
        if mode == "another split":
            a, b = x[:, ::2], x[:, 1::2]
            return torch.tanh(a) * torch.sigmoid(b)
        if mode == "loop":
            total = 0
            for i in range(3):
                total = total + torch.tanh(a) * torch.sigmoid(b)
                b = b + i
            return total
        if mode == "lambda":
            late = lambda: torch.tanh(a) * torch.sigmoid(b)  # noqa: E731
            a = 2 * a
            return late()
        if mode == "comprehension":
            return sum(torch.tanh(a) * torch.sigmoid(b) for a, b in [(b, a)])
        if mode == "walrus":
            return [(a := a + 1), torch.tanh(a) * torch.sigmoid(b)][1]
        if mode == "glu":
            return torch.sigmoid(b) * a
        a += 1
        if mode == "in place":
            return torch.tanh(a) * torch.sigmoid(b)
        a, b = torch.chunk(x, chunks=2, dim=1)
        x = x + 1
        return torch.tanh(input=a) * torch.sigmoid(b), a * b.sigmoid(), torch.tanh(a) * b.sigmoid()


@pytest.mark.parametrize(
    "mode",
    [
        "in a branch",
        "assigned since",
        "another split",
        "loop",
        "lambda",
        "comprehension",
        "walrus",
        "glu",
        "in place",
        "last",
    ],
)
def test_a_forward_with_gates_means_what_it_meant(mode):
    module = ManyForms()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        wanted = module(x.clone(), mode)
        assert "gates fused" in str(genfast.swap(module))
        got = module(x.clone(), mode)
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=1e-14)


def test_only_the_halves_of_a_split_are_fused(monkeypatch):
    from genfast.swapping import inline_gate

    calls = []
    real = inline_gate.gated_activation
    monkeypatch.setattr(inline_gate, "gated_activation", lambda y: calls.append(1) or real(y))
    module = ManyForms()
    genfast.swap(module)
    fused = {}
    for mode in ("in a branch", "assigned since", "another split", "loop", "lambda", "walrus"):
        calls.clear()
        module(torch.randn(2, 6, 3, 3), mode)
        fused[mode] = len(calls)
    assert fused == {
        "in a branch": 1, "assigned since": 0, "another split": 0, "loop": 0, "lambda": 0, "walrus": 0,
    }  # fmt: skip


def test_unequal_parts_are_no_halves():
    class Unequal(nn.Module):
        def forward(self, x):
            a, b = torch.split(x, [1, 3], 1)
            return torch.tanh(a) * torch.sigmoid(b)

    module, x = Unequal(), torch.randn(2, 4, 2, 2)
    wanted = module(x)
    assert len(genfast.swap(module).replaced) == 1
    assert torch.equal(module(x), wanted)


def test_a_function_called_tanh_that_is_none_is_not_fused():
    assert not genfast.swap(Impostor()).replaced


class Impostor(nn.Module):
    def forward(self, x):
        torch = plain  # another module with the names of torch
        a, b = x.chunk(2, 1)
        return torch.both_signs(a) * torch.sigmoid(b)


def test_private_names_super_and_decorators_are_left_alone():
    class Private(nn.Module):
        def __gate(self, a, b):
            return torch.tanh(a) * torch.sigmoid(b)

        def forward(self, x):
            a, b = x.chunk(2, 1)
            return self.__gate(a, b) + torch.tanh(a) * torch.sigmoid(b)

    class Super(plain.WithHelper):
        def forward(self, x):
            a, b = x.repeat(1, 2, 1, 1).chunk(2, 1)
            return super().forward(torch.tanh(a) * torch.sigmoid(b))

    class Decorated(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            a, b = x.chunk(2, 1)
            return x * 0 + 1 + torch.cat([torch.tanh(a) * torch.sigmoid(b)] * 2, 1)

    assert "private" in left_reason(Private())
    assert "super()" in left_reason(Super(2))
    assert left_reason(Decorated()) == "no pattern fits"


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


def test_import_is_lazy():
    code = "import sys, genfast; assert not any('swapping' in m for m in sys.modules); genfast.swap"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"swap", "unswap", "verify"} <= set(dir(genfast))


@pytest.mark.parametrize("function", [genfast.swap, genfast.unswap, lambda m: genfast.verify(m, 1)])
def test_something_else_than_a_module_raises(function):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        function(3)
