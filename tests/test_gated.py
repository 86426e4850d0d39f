"""gated_activation: the error bound of its own exp and tanh, limits, special values, layouts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genfast.ops import gated_activation

INF, NAN = math.inf, math.nan
# With these the other factor of the gate is exactly 1 in fp32.
OPEN = 100.0  # b: sigmoid
SATURATED = 40.0  # a: tanh

# The stated bounds of the fp32 kernel against fp64, in units in the last place of the exact value (or of
# the smallest normal number, if that is larger). Measured: 2.49, 2.08, 4.76, 8.9, 7.4.
TANH_ULP, SIGMOID_ULP, PRODUCT_ULP, GRAD_A_ULP, GRAD_B_ULP = 2.5, 2.1, 5.0, 9.0, 7.5
# sigmoid(b) falls to e^-88 and no further: below b = -87 the bound is absolute.
SMALLEST_SIGMOID = 6.1e-39
SMALLEST_GRADIENT = 6.6e-38  # likewise: 4 e^-87, from |a| = 43.5 on


def gate(a: Tensor, b: Tensor | float) -> Tensor:
    return gated_activation(torch.stack([a, torch.as_tensor(b, dtype=a.dtype).expand_as(a)]), dim=0)[0]


def ulps(got: Tensor, exact: Tensor) -> float:
    """The largest error, in units in the last place of fp32 at the exact value."""
    exponent = torch.frexp(exact.abs().clamp_min(2.0**-126))[1]
    return ((got.double() - exact).abs() * torch.exp2((24 - exponent).double())).max().item()


def sweep() -> Tensor:
    """Every 1009th positive float and its negative, denormals and the largest included: 4 million."""
    positive = torch.arange(0, 0x7F800000, 1009, dtype=torch.int32).view(torch.float32)
    edges = torch.tensor([1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, INF])
    positive = torch.cat([positive, edges])
    return torch.cat([positive, -positive])


def test_tanh_error_bound(isa: str) -> None:
    a = sweep()
    assert ulps(gate(a, OPEN), torch.tanh(a.double())) <= TANH_ULP


def test_sigmoid_error_bound(isa: str) -> None:
    b = sweep()
    y, exact = gate(torch.full_like(b, SATURATED), b), torch.sigmoid(b.double())
    normal = b >= -87
    assert ulps(y[normal], exact[normal]) <= SIGMOID_ULP
    assert (y[~normal] - exact[~normal]).abs().max() <= SMALLEST_SIGMOID


def test_product_and_gradient_error_bounds(isa: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a = 3 * torch.randn(1_000_000, generator=generator)
    b = 8 * torch.randn(1_000_000, generator=generator)
    x = torch.stack([a, b]).requires_grad_()
    y = gated_activation(x, dim=0)
    y.sum().backward()
    a, b = a.double(), b.double()
    tanh, sigmoid = torch.tanh(a), torch.sigmoid(b)
    assert ulps(y[0].detach(), tanh * sigmoid) <= PRODUCT_ULP
    assert ulps(x.grad[0], sigmoid / torch.cosh(a) ** 2) <= GRAD_A_ULP
    assert ulps(x.grad[1], tanh * sigmoid * torch.sigmoid(-b)) <= GRAD_B_ULP


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_number(isa: str, dtype: torch.dtype) -> None:
    """All 65536: computed in fp32 and rounded once, to nearest even, by our own conversions."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    for a, b in ((every, torch.full_like(every, OPEN)), (torch.full_like(every, SATURATED), every)):
        y, single = gate(a, b), gate(a.float(), b.float()).to(dtype)
        assert torch.equal(y.isnan(), every.isnan())
        numbers = ~every.isnan()
        assert torch.equal(y[numbers].view(torch.int16), single[numbers].view(torch.int16))


def test_limits(isa: str) -> None:
    a = torch.tensor([INF, -INF, 3.4e38, -3.4e38, 20.0, -20.0])
    assert gate(a, INF).tolist() == [1, -1, 1, -1, 1, -1]
    assert gate(a, -INF).abs().max() <= SMALLEST_SIGMOID
    assert gate(torch.zeros(4), torch.tensor([INF, -INF, 0.0, 3.4e38])).tolist() == [0, 0, 0, 0]


def test_zero_keeps_its_sign(isa: str) -> None:
    zeros = torch.tensor([0.0, -0.0])
    assert torch.signbit(gate(zeros, 1.0)).tolist() == [False, True]


def test_monotone(isa: str) -> None:
    a = torch.linspace(-12, 12, 1_000_001)
    assert (gate(a, OPEN).diff() >= 0).all()
    b = torch.linspace(-120, 120, 1_000_001)
    assert (gate(torch.full_like(b, SATURATED), b).diff() >= 0).all()


def test_odd_in_a(isa: str) -> None:
    a = torch.linspace(0, 12, 100_001)[1:]
    assert torch.equal(gate(-a, 0.5), -gate(a, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_nan_goes_where_it_should(isa: str, dtype: torch.dtype) -> None:
    """A NaN in a or b makes its own output and gradients NaN, and no neighbour's."""
    for half in (0, 1):
        x = torch.zeros(2, 37, dtype=dtype)
        x[half, 17] = NAN
        x.requires_grad_()
        y = gated_activation(x, dim=0)
        y.sum().backward()
        expected = torch.arange(37) == 17
        assert torch.equal(y[0].isnan(), expected)
        assert torch.equal(x.grad[half].isnan(), expected)
        assert torch.equal(x.grad[1 - half].isnan(), expected)


def test_gradient_vanishes_without_overflow(isa: str) -> None:
    for a, b in ((INF, 0.0), (-INF, INF), (1e30, -1e30), (0.0, INF)):
        x = torch.tensor([[a], [b]]).requires_grad_()
        gated_activation(x, dim=0).sum().backward()
        t, s = torch.tanh(x.detach().double()[0]), torch.sigmoid(x.detach().double()[1])
        exact = torch.stack([s * (1 - t * t), t * s * (1 - s)])
        assert (x.grad - exact).abs().max() <= SMALLEST_GRADIENT


def test_slice_of_stride_3(isa: str) -> None:
    whole = torch.randn(4, 3 * 50, 7)
    view = whole[:, ::3]
    assert view.stride() == (1050, 21, 1)
    a, b = view.double().chunk(2, 1)
    y = gated_activation(view)
    assert (y - torch.tanh(a) * torch.sigmoid(b)).abs().max() <= 3e-7
    assert torch.equal(y, gated_activation(view.contiguous()))


def test_output_follows_the_memory_format() -> None:
    image = torch.randn(2, 6, 4, 5)
    assert gated_activation(image).is_contiguous()
    last = gated_activation(image.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert gated_activation(image.transpose(2, 3)).stride() == (60, 20, 1, 5)


@pytest.mark.parametrize("length", [1, 3, 15, 16, 17, 511, 512, 513, 1024 + 5])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_blocks_and_tails(isa: str, length: int, offset: int) -> None:
    """Lengths round the vector and block sizes, at any alignment: every element alike."""
    buffer = torch.full((2, offset + length + 3), NAN)
    x = buffer[:, offset : offset + length]
    x.copy_(torch.linspace(-3, 3, 2 * length).view(2, length))
    alone = [gated_activation(x[:, i], dim=0).item() for i in range(length)]
    assert gated_activation(x, dim=0)[0].tolist() == alone


@pytest.mark.slow
def test_more_elements_than_32_bits_count() -> None:
    """2^31 + 2 elements in x, all but two of them the same memory; y itself takes 2 GiB."""
    half = 2**30 + 1
    x = torch.tensor([[0.5], [1.5]], dtype=torch.bfloat16).expand(2, half)
    y = gated_activation(x, dim=0)[0]
    expected = gated_activation(x[:, :1], dim=0)[0, 0]
    assert y.numel() == half
    for part in y.split(2**27):
        assert torch.equal(part, expected.expand_as(part))
