"""The causal convolutions: which tap and which pixel is seen, written out from their definitions."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import genfast
from genfast.ops import gated_masked_conv2d, masked_conv2d, shifted_conv2d, shifted_conv_transpose2d


def dependencies(function, *shape: int) -> Tensor:
    """Whether output (o, r, c) depends on input (i, s, d): (O, H', W', I, H, W), from the Jacobian.

    Of a linear function with positive weights on a random input: no live tap can give zero.
    """
    x = torch.rand(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(function, x)[0, :, :, :, 0]
    return jacobian != 0


def positive(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) + 0.5


# ---- the mask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5, 7, 9])
def test_number_of_live_taps(k: int) -> None:
    """(k^2 - 1)/2 for A and (k^2 + 1)/2 for B: 24 and 25 of 49."""
    ones = torch.ones(1, 1, k, k)
    for mask_type, count in (("A", (k * k - 1) // 2), ("B", (k * k + 1) // 2)):
        middle = masked_conv2d(torch.ones(1, 1, k, k), ones, mask_type=mask_type)
        assert middle[0, 0, k // 2, k // 2] == count
        assert genfast.reference.causal_mask((1, 1, k, k), mask_type).sum() == count


def colour(channel: int, channels: int, colors: int) -> int:
    """floor(channel * colors / channels), by counting: colours are the shares of the channels."""
    return max(c for c in range(colors) if c * channels <= channel * colors)


def test_colours_of_channels() -> None:
    assert [colour(c, 3, 3) for c in range(3)] == [0, 1, 2]
    assert [colour(c, 4, 3) for c in range(4)] == [0, 0, 1, 2]
    assert [colour(c, 5, 3) for c in range(5)] == [0, 0, 1, 1, 2]
    assert [colour(c, 64, 3) for c in (0, 21, 22, 42, 43, 63)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("part", [4, 5])
def test_sees_exactly_what_it_may(mask_type: str, colors: int, splits: int, part: int) -> None:
    """Every pair of pixels and channels against the rule: earlier pixels, and earlier colours here.

    Channel counts are no multiple of 3, and colours restart in each part of the output.
    """
    channels_in, channels_out, height, width, k = 4, part * splits, 4, 4, 3
    weight = positive(channels_out, channels_in, k, k)

    def function(x):
        return masked_conv2d(x, weight, mask_type=mask_type, colors=colors, out_splits=splits)

    seen = dependencies(function, channels_in, height, width)
    for o, r, c, i, s, d in itertools.product(*map(range, seen.shape)):
        near = abs(r - s) <= k // 2 and abs(c - d) <= k // 2
        own, other = colour(o % part, part, colors), colour(i, channels_in, colors)
        if (s, d) == (r, c):
            may = other < own if mask_type == "A" else other <= own
        else:
            may = s < r or (s == r and d < c)
        assert seen[o, r, c, i, s, d] == (near and may), (o, r, c, i, s, d)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 5), (3, 1), (5, 3), (3, 7)])
@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_kernels_that_are_not_square(kernel: tuple[int, int], mask_type: str) -> None:
    weight = positive(2, 2, *kernel)
    seen = dependencies(lambda x: masked_conv2d(x, weight, mask_type=mask_type), 2, 4, 5)
    for o, r, c, i, s, d in itertools.product(*map(range, seen.shape)):
        near = r - s <= kernel[0] // 2 and abs(c - d) <= kernel[1] // 2
        may = s < r or (s == r and (d < c or (d == c and mask_type == "B")))
        assert seen[o, r, c, i, s, d] == (near and may)


def test_information_flows_along_the_first_row() -> None:
    """Ports that zero the centre row, or pad it away, make pixels of row 0 independent."""
    first, later = positive(1, 1, 7, 7), positive(1, 1, 3, 3)

    def two_layers(x):
        return masked_conv2d(masked_conv2d(x, first, mask_type="A"), later, mask_type="B")

    seen = dependencies(two_layers, 1, 3, 6)[0, 0, :, 0, 0]
    assert torch.equal(seen, torch.ones(6, 6).tril(-1).bool() & ~torch.ones(6, 6).tril(-5).bool())


def test_green_sees_red_of_its_own_pixel() -> None:
    """The order R, G|R, B|R,G of RGB through a masked layer of each kind."""
    first, later = positive(6, 3, 3, 3), positive(3, 6, 1, 1)

    def two_layers(x):
        hidden = masked_conv2d(x, first, mask_type="A", colors=3)
        return masked_conv2d(hidden, later, mask_type="B", colors=3)

    own_pixel = dependencies(two_layers, 3, 1, 1)[:, 0, 0, :, 0, 0]
    assert own_pixel.tolist() == [[False, False, False], [True, False, False], [True, True, False]]


def test_both_halves_of_the_gate_have_every_colour() -> None:
    weight = positive(10, 3, 1, 1)
    seen = dependencies(lambda x: gated_masked_conv2d(x, 0.1 * weight, mask_type="A", colors=3), 3, 1, 1)
    own_pixel = seen[:, 0, 0, :, 0, 0]
    expected = [[colour(i, 3, 3) < colour(o, 5, 3) for i in range(3)] for o in range(5)]
    assert own_pixel.tolist() == expected


# ---- the weight ----------------------------------------------------------------------------------


def test_weight_is_neither_changed_nor_replaced() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 2, 3, 3))
    kept, version = weight.detach().clone(), weight._version
    for mask_type in ("A", "B"):
        masked_conv2d(torch.randn(1, 2, 5, 5), weight, mask_type=mask_type, colors=2).sum().backward()
    assert weight._version == version
    assert torch.equal(weight, kept)
    dead = ~genfast.reference.causal_mask((4, 2, 3, 3), "B", 2)
    assert (weight.grad[dead] == 0).all()
    assert weight.grad.shape == weight.shape


def test_functional_call_with_foreign_weights() -> None:
    """Nothing is kept from a module's own parameters: others may be put in their place."""
    layer = genfast.nn.MaskedConv2d(2, 4, 3, mask_type="B")
    x = torch.randn(1, 2, 5, 5)
    layer(x)
    foreign = {name: torch.randn_like(value) for name, value in layer.named_parameters()}
    got = torch.func.functional_call(layer, foreign, (x,))
    assert torch.allclose(got, masked_conv2d(x, **foreign, mask_type="B"))
    stacked = {name: torch.stack([value, 2 * value]) for name, value in foreign.items()}
    ensemble = torch.vmap(lambda own: torch.func.functional_call(layer, own, (x,)))(stacked)
    assert torch.allclose(ensemble[0], got, atol=1e-5)
    assert torch.allclose(ensemble[1], 2 * got, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 9)])
def test_images_smaller_than_the_kernel(size: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, *size), torch.randn(5, 3, 7, 7)
    y = masked_conv2d(x, weight, mask_type="A")
    dense = F.conv2d(x, weight * genfast.reference.causal_mask((5, 3, 7, 7), "A"), padding=3)
    assert y.shape == (2, 5, *size)
    assert torch.allclose(y, dense, atol=1e-4)


# ---- shifted convolutions ------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "kernel"), [("down", (2, 3)), ("down", (1, 5)), ("down", (3, 1)),
                                               ("down_right", (2, 2)), ("down_right", (3, 4)),
                                               ("down_right", (1, 1))])  # fmt: skip
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 4), (4, 7), (1, 1)])
def test_shifted_sees_exactly_its_window(
    shift: str, kernel: tuple[int, int], stride: int, size: tuple[int, int]
) -> None:
    """(r, c) sees rows rs-(kh-1)..rs, and columns round cs ("down") or up to it ("down_right")."""
    (kh, kw), (height, width) = kernel, size
    weight = positive(2, 2, kh, kw)
    seen = dependencies(lambda x: shifted_conv2d(x, weight, shift=shift, stride=stride), 2, *size)
    assert seen.shape[1:3] == (-(-height // stride), -(-width // stride))
    left, right = (kw // 2, kw // 2) if shift == "down" else (kw - 1, 0)
    for o, r, c, i, s, d in itertools.product(*map(range, seen.shape)):
        row, column = r * stride, c * stride
        window = row - kh < s <= row and column - left <= d <= column + right
        assert seen[o, r, c, i, s, d] == window


@pytest.mark.parametrize(("shift", "kernel"), [("down", (2, 3)), ("down", (3, 5)), ("down", (1, 1)),
                                               ("down_right", (2, 2)), ("down_right", (3, 4)),
                                               ("down_right", (1, 2))])  # fmt: skip
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 4), (1, 1)])
def test_transposed_is_seen_by_exactly_its_window(
    shift: str, kernel: tuple[int, int], stride: int, size: tuple[int, int]
) -> None:
    """Input (s, d) is laid on rows ss..ss+kh-1 and kw columns from ds on (minus (kw-1)/2 for "down")."""
    (kh, kw), (height, width) = kernel, size
    weight = positive(2, 3, kh, kw)
    seen = dependencies(
        lambda x: shifted_conv_transpose2d(x, weight, shift=shift, stride=stride), 2, *size
    )
    assert seen.shape[:3] == (3, stride * height, stride * width)
    left = kw // 2 if shift == "down" else 0
    for o, r, c, i, s, d in itertools.product(*map(range, seen.shape)):
        on_rows = s * stride <= r < s * stride + kh
        on_columns = d * stride - left <= c < d * stride - left + kw
        assert seen[o, r, c, i, s, d] == (on_rows and on_columns)


@pytest.mark.parametrize(("shift", "kernel"), [("down", (2, 3)), ("down_right", (2, 2))])
def test_down_and_up_again_is_causal(shift: str, kernel: tuple[int, int]) -> None:
    """As in PixelCNN++: halved and doubled, no output sees a row below its own."""
    down, up = positive(2, 2, *kernel), positive(2, 2, *kernel)

    def there_and_back(x):
        return shifted_conv_transpose2d(
            shifted_conv2d(x, down, shift=shift, stride=2), up, shift=shift, stride=2
        )

    seen = dependencies(there_and_back, 2, 4, 4).any(dim=3).any(dim=0)
    for r, c, s, d in itertools.product(*map(range, seen.shape)):
        if s > r or (shift == "down_right" and d > c):
            assert not seen[r, c, s, d]
    assert seen[3, 3, 2, 2]
