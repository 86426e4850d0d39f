"""Weight normalisation equals PyTorch's, with one norm an output channel in every kind of layer."""

from __future__ import annotations

import pytest
import torch

from genfast.nn import (
    ShiftedConv2d,
    ShiftedConvTranspose2d,
    WeightNormConv2d,
    WeightNormConvTranspose2d,
    initialised_from_data,
)

PAIRS = pytest.mark.parametrize(
    ("ours", "plain", "dim"),
    [
        (WeightNormConv2d, ShiftedConv2d, 0),
        (WeightNormConvTranspose2d, ShiftedConvTranspose2d, 1),
    ],
)
SHIFTS = pytest.mark.parametrize(("shift", "kernel"), [("down", (2, 3)), ("down_right", (2, 2))])


@PAIRS
@SHIFTS
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_pytorchs_parametrisation(ours, plain, dim, shift, kernel, stride):
    layer = ours(3, 5, kernel, shift=shift, stride=stride).double()
    torch.nn.init.normal_(layer.weight_g)
    torch.nn.init.normal_(layer.bias)
    other = plain(3, 5, kernel, shift=shift, stride=stride).double()
    torch.nn.utils.parametrizations.weight_norm(other, dim=dim)
    gain, direction = other.parametrizations.weight.original0, other.parametrizations.weight.original1
    assert gain.shape == layer.weight_g.shape
    with torch.no_grad():
        gain.copy_(layer.weight_g)
        direction.copy_(layer.weight_v)
        other.bias.copy_(layer.bias)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    cotangent = torch.randn_like(layer(x))
    layer(x).backward(cotangent)
    other(x).backward(cotangent)
    torch.testing.assert_close(layer(x), other(x), rtol=0, atol=1e-12)
    for got, expected in (
        (layer.weight_v, direction),
        (layer.weight_g, gain),
        (layer.bias, other.bias),
    ):
        torch.testing.assert_close(got.grad, expected.grad, rtol=0, atol=1e-12)


def test_starts_as_published():
    torch.manual_seed(0)
    layer = WeightNormConv2d(64, 64, (2, 3))
    assert layer.weight_v.std().item() == pytest.approx(0.05, rel=0.02)
    assert (layer.weight_g == 1).all()
    assert (layer.bias == 0).all()
    assert list(layer.state_dict()) == ["weight_v", "weight_g", "bias"]


def test_a_direction_of_zero_gives_zero_not_nan():
    layer = WeightNormConv2d(2, 3, (1, 1))
    torch.nn.init.zeros_(layer.weight_v)
    y = layer(torch.randn(1, 2, 2, 2))
    y.sum().backward()
    assert (y == 0).all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_initialisation_sets_gain_and_bias_by_the_published_rule():
    """c = init_scale / sqrt(var + 1e-10), g = c, b = -mean c, for what g = 1, b = 0 gives."""
    torch.manual_seed(0)
    layer = WeightNormConv2d(3, 4, (2, 3), init_scale=0.1).double()
    direction = layer.weight_v.detach().clone()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64) + 1
    var, mean = torch.var_mean(layer(x), (0, 2, 3), correction=0)
    with initialised_from_data(layer):
        y = layer(x)
    scale = 0.1 / (var + 1e-10).sqrt()
    torch.testing.assert_close(layer.weight_g.flatten(), scale)
    torch.testing.assert_close(layer.bias, -mean * scale)
    assert torch.equal(layer.weight_v, direction)
    torch.testing.assert_close(layer(x), y)
    version = layer.bias._version
    layer(x)
    assert layer.bias._version == version, "only within the block"


def test_later_layers_see_earlier_ones_initialised():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(WeightNormConv2d(3, 4, (2, 3)), WeightNormConv2d(4, 4, (1, 1)))
    x = torch.randn(5, 3, 6, 6)
    with initialised_from_data(layers):
        layers(x)
    first, second = layers[0](x), layers(x)
    for y in (first, second):
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(4), rtol=1e-4, atol=0)


def test_hooks_are_removed_when_the_pass_fails():
    layer = WeightNormConv2d(3, 4, (2, 3))
    with pytest.raises(ValueError, match="input channels"), initialised_from_data(layer):
        layer(torch.zeros(1, 2, 3, 3))
    before = layer.weight_g.detach().clone()
    layer(torch.randn(1, 3, 3, 3))
    assert torch.equal(layer.weight_g, before)
