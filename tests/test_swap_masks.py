"""Which masked convolutions genfast.swap replaces."""

from __future__ import annotations

import copy

import pytest
import swap_modules as plain
import swap_ports as ports
import torch
from swap_modules import left_reason, raster, results
from torch import nn

import genfast
from genfast.reference import causal_mask

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
    notes = {entry.name: entry.note for entry in genfast.swap(ports.PortNet(4)).replaced}
    assert "halves of its 8 outputs differ in colour" in notes["blocks.0.h_conv"]
    notes = {entry.name: entry.note for entry in genfast.swap(ports.PortNet(6)).replaced}
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


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_hooks_of_an_inner_convolution_are_not_lost():
    wrapper = plain.MaskedWrapper(2, 2, raster(3, 3, True))
    wrapper.inner.register_forward_hook(lambda *_: None)
    assert "hooks" in left_reason(wrapper)
    padded = ports.PaddedConv(2, 2)
    padded.conv.register_forward_pre_hook(lambda *_: None)
    assert "its conv has hooks" in left_reason(padded)


def test_hooks_go_on_and_see_no_probe():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    seen = []
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    genfast.swap(conv)
    conv(torch.randn(1, 2, 4, 4))
    assert seen == [(1, 2, 4, 4)]
