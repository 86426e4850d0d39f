"""The log-likelihood of the logistic mixture: probabilities that add up, far tails, layouts."""

from __future__ import annotations

import functools
import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch
import torch.nn.functional as F
from checks import assert_close, forward_backward, normal_like
from emulated import emulation
from mixtures import grey_params, level_values
from torch import Tensor

from genfast import reference
from genfast.ops import logistic_mixture_log_prob, logistic_mixture_sample


def mass_over_levels(params: Tensor, levels: int) -> Tensor:
    """For grey params (N, 3K, 1, 1), the sum of the probabilities of all levels."""
    x = level_values(levels, params.dtype).expand(len(params), 1, 1, levels)
    log_prob = logistic_mixture_log_prob(params.expand(-1, -1, 1, levels), x, levels=levels)
    return log_prob.double().exp().sum(-1).flatten()


# ---- probabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("levels", [2, 3, 16, 256, 65536])
def test_probabilities_of_the_levels_sum_to_1(
    isa: str, levels: int, dtype: torch.dtype, bound: float
) -> None:
    """At the smallest scale and at others; means on levels, on boundaries, near and beyond the edges."""
    spacing = 2 / (levels - 1)
    means = torch.tensor(
        [-1, 1, 0, 0.001, spacing / 2, 1 - spacing / 2, 0.123, -0.7654, 0.9999, -1.2, 30, -1e4],
        dtype=torch.float64,
    )
    for log_scale in (-20.0, -7.0, -3.0, 0.0, 4.0, 30.0):
        params = grey_params(means[:, None], log_scale).to(dtype)
        error = (mass_over_levels(params, levels) - 1).abs().max().item()
        assert error <= bound, f"log-scale {log_scale}: {error:.3g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_of_a_mixture_sum_to_1(isa: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.rand(50, 10, generator=generator, dtype=dtype) - 1
    log_scales = torch.where(torch.rand(50, 10, generator=generator) < 0.5, -7.0, -2.0).to(dtype)
    logits = 5 * torch.randn(50, 10, generator=generator, dtype=dtype)
    total = mass_over_levels(grey_params(means, log_scales, logits), 256)
    assert (total - 1).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("mixtures", [1, 3])
@pytest.mark.parametrize("log_scale", [-7.0, -1.0])
def test_probabilities_of_all_colours_sum_to_1(isa: str, mixtures: int, log_scale: float) -> None:
    """64 colours of 4 levels each: coupled means leave the joint distribution normalised."""
    params = torch.randn(1, 10 * mixtures, 1, 1, generator=torch.Generator().manual_seed(mixtures))
    params[:, mixtures:].unflatten(1, (3, 3, mixtures))[:, :, 1] += log_scale
    colors = torch.tensor(list(itertools.product(level_values(4).tolist(), repeat=3)))
    x = colors.T[None, :, None]
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        wide = params.to(dtype).expand(1, -1, 1, 64)
        x_exact = (level_values(4)[((x + 1) * 1.5).round().long()]).to(dtype)
        total = logistic_mixture_log_prob(wide, x_exact, levels=4).double().exp().sum()
        assert abs(total.item() - 1) <= bound


@functools.cache
def decimal_log_prob(mean: float, log_scale: float, level: int, levels: int) -> Decimal:
    """log(sigmoid(a) - sigmoid(b)), or what of it an outer level has, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        scale, spacing = Decimal(log_scale).exp(), Decimal(1) / (levels - 1)
        center = (2 * level - levels + 1) * spacing - Decimal(mean)
        a, b = (center + spacing) / scale, (center - spacing) / scale
        if center > 0:  # mirrored, so that the difference below is one of small numbers
            a, b, level = -b, -a, levels - 1 - level
        upper = Decimal(1) if level == levels - 1 else 1 / (1 + (-a).exp())
        lower = Decimal(0) if level == 0 else 1 / (1 + (-b).exp())
        return (upper - lower).ln()


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("scales_away", [0, 0.3, 5, 40, 400, -40])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, 1.0])
def test_far_tails(isa: str, levels: int, scales_away: float, log_scale: float) -> None:
    """Against decimal arithmetic; the published form is off by up to 2 nats here."""
    for level in (0, 1, levels // 2, levels - 1):
        x = level_values(levels)[level].item()
        mean = x + scales_away * math.exp(log_scale)
        for dtype, bound in ((torch.float64, 1e-13), (torch.float32, 4e-7)):
            params = grey_params(torch.tensor([[mean]], dtype=dtype), log_scale)
            image = torch.full((1, 1, 1, 1), x, dtype=dtype)
            got = logistic_mixture_log_prob(params, image, levels=levels).item()
            true = decimal_log_prob(params[0, 1].item(), log_scale, level, levels)
            # The mean's distance in scales is a difference of numbers up to 1, divided by the scale.
            rounding = bound * math.exp(-log_scale) * (1 + abs(mean))
            assert abs(Decimal(got) - true) <= Decimal(bound) * (1 + abs(true)) + Decimal(rounding)


def test_a_level_survives_rounding_to_16_bits() -> None:
    """ "exact" takes the nearest level; bf16 keeps 256 of them apart."""
    params = torch.randn(1, 30, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    x = level_values(256, torch.float32).view(1, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        whole = logistic_mixture_log_prob(params, x)
        rounded = logistic_mixture_log_prob(params, x.bfloat16())
    assert whole.dtype == rounded.dtype == torch.float32
    assert torch.equal(whole, rounded)


def test_steep_logits_and_wide_scales(isa: str) -> None:
    """Logits far from 0 and scales at which a bin all but vanishes, in fp32 against fp64."""
    generator = torch.Generator().manual_seed(0)
    means, x = torch.rand(1, 8, generator=generator), torch.zeros(1, 1, 1, 1)
    for logits in (1e4, -1e4):
        for log_scale in (10.0, 25.0, 60.0, 90.0):
            params = grey_params(means, log_scale, logits + torch.arange(8.0))
            got, gradient = forward_backward(logistic_mixture_log_prob, [params, x], {}, [0])
            true, exact = forward_backward(
                reference.logistic_mixture_log_prob, [params.double(), x.double()], {}, [0],
                normal_like(got).double(),
            )  # fmt: skip
            assert_close(got, true)
            assert_close(gradient, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_stays_with_its_pixel(isa: str, dtype: torch.dtype) -> None:
    for channel in range(20):
        params = torch.zeros(1, 20, 1, 37, dtype=dtype)
        params[0, channel, 0, 17] = math.nan
        y, gradient = forward_backward(
            logistic_mixture_log_prob, [params, torch.zeros(1, 3, 1, 37, dtype=dtype)], {}, [0]
        )
        assert torch.equal(y[0, 0].isnan(), torch.arange(37) == 17)
        assert torch.equal(gradient.isnan().any(1)[0, 0], torch.arange(37) == 17)


# ---- the published form --------------------------------------------------------------------------


def published_log_prob(params: Tensor, x: Tensor) -> Tensor:
    """The published formula (openai/pixel-cnn), written anew: clamps, branches, thresholds and all."""
    batch, colors, height, width = x.shape
    mixtures = params.shape[1] // (10 if colors == 3 else 3)
    logits = params[:, :mixtures].permute(0, 2, 3, 1)
    rest = (
        params[:, mixtures:]
        .reshape(batch, colors, -1, mixtures, height, width)
        .permute(0, 4, 5, 1, 2, 3)
    )
    means, log_scales = rest[:, :, :, :, 0], rest[:, :, :, :, 1].clamp(min=-7)
    pixels = x.permute(0, 2, 3, 1)[..., None]
    if colors == 3:
        c = torch.tanh(rest[:, :, :, :, 2])
        red, green = pixels[:, :, :, 0], pixels[:, :, :, 1]
        blue_shift = c[:, :, :, 1] * red + c[:, :, :, 2] * green
        shift = [torch.zeros_like(blue_shift), c[:, :, :, 0] * red, blue_shift]
        means = means + torch.stack(shift, 3)
    centered, inverse = pixels - means, torch.exp(-log_scales)
    plus, minus, middle = (
        (centered + 1 / 255) * inverse,
        (centered - 1 / 255) * inverse,
        centered * inverse,
    )
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scales - 2 * F.softplus(middle, threshold=60) - math.log(127.5)
    inner = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), density)
    upper = torch.where(pixels > 0.999, -F.softplus(minus, threshold=60), inner)
    log_probs = torch.where(pixels < -0.999, plus - F.softplus(plus, threshold=60), upper)
    return torch.logsumexp(log_probs.sum(3) + F.log_softmax(logits, -1), -1)


@pytest.mark.parametrize(("colors", "mixtures"), [(3, 10), (3, 1), (1, 7)])
def test_reference_mode_is_the_published_form(isa: str, colors: int, mixtures: int) -> None:
    generator = torch.Generator().manual_seed(colors)
    channels = mixtures * (10 if colors == 3 else 3)
    params = torch.randn(2, channels, 9, 11, generator=generator, dtype=torch.float64)
    params[:, 2 * mixtures : 3 * mixtures] -= 4.5  # many bins below the threshold, many above
    x = level_values(256)[torch.randint(0, 256, (2, colors, 9, 11), generator=generator)]
    x[:, :, 0], x[:, :, 1] = -1, 1
    got = forward_backward(logistic_mixture_log_prob, [params, x], {"mode": "reference"}, [0])
    exact = forward_backward(published_log_prob, [params, x], {}, [0])
    # Its difference of two sigmoids loses 11 of 16 digits at the threshold.
    for mine, theirs in zip(got, exact, strict=True):
        assert (mine - theirs).abs().max() <= 1e-9 * (1 + theirs.abs().max())
    single = logistic_mixture_log_prob(params.float(), x.float(), mode="reference")
    assert (single - exact[0]).abs().max() <= 1e-5 * (1 + exact[0].abs().max())


def test_how_far_the_published_form_is_off() -> None:
    """At the smallest scale, 17 scales from the mean: 2.15 nats (and none where the bin is likely)."""
    params = grey_params(torch.tensor([[0.12, 0.1]], dtype=torch.float64).T, -7.0)
    x = torch.full((2, 1, 1, 1), level_values(256)[140].item(), dtype=torch.float64)
    off = logistic_mixture_log_prob(params, x) - logistic_mixture_log_prob(params, x, mode="reference")
    assert 2.1 < off[0].item() < 2.2
    assert abs(off[1].item()) < 1e-9


# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pixels", [1, 3, 15, 16, 17, 33, 128, 129])
def test_blocks_and_tails(isa: str, pixels: int, dtype: torch.dtype) -> None:
    """Numbers of pixels round the vector and block sizes, in both layouts: every pixel alike."""
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(1, 30, 1, pixels, generator=generator).to(dtype)
    x = level_values(256, dtype)[torch.randint(0, 256, (1, 3, 1, pixels), generator=generator)]
    arguments = ([params, x], {}, [0], torch.ones(1, 1, pixels, dtype=dtype))
    y, gradient = forward_backward(logistic_mixture_log_prob, *arguments)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (params, x)]
    y_last, gradient_last = forward_backward(logistic_mixture_log_prob, last, *arguments[1:])
    assert torch.equal(y, y_last)
    assert torch.equal(gradient, gradient_last)
    for i in {0, pixels // 2, pixels - 1}:
        one = [t[..., i : i + 1] for t in (params, x)]
        y_one, gradient_one = forward_backward(
            logistic_mixture_log_prob, one, {}, [0], torch.ones(1, 1, 1, dtype=dtype)
        )
        assert torch.equal(y[..., i : i + 1], y_one)
        assert torch.equal(gradient[..., i : i + 1], gradient_one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("colors", "mixtures"), [(1, 1), (1, 3), (1, 6), (3, 1), (3, 10), (3, 43)])
def test_channels_side_by_side(isa: str, colors: int, mixtures: int, dtype: torch.dtype) -> None:
    """Any number of channels, transposed in squares; rows that follow each other and that do not."""
    generator, channels = torch.Generator().manual_seed(0), mixtures * (3 if colors == 1 else 10)
    params = torch.randn(2, channels, 3, 41, generator=generator).to(dtype)
    x = level_values(256, dtype)[torch.randint(0, 256, (2, colors, 3, 41), generator=generator)]
    expected = forward_backward(logistic_mixture_log_prob, [params, x], {}, [0])
    wide = torch.full((2, 3, 41, channels + 5), math.nan, dtype=dtype)
    inside = wide[..., 2 : channels + 2].permute(0, 3, 1, 2)
    inside.copy_(params)
    for same in (params.contiguous(memory_format=torch.channels_last), inside):
        got = forward_backward(logistic_mixture_log_prob, [same, x], {}, [0])
        for mine, theirs in zip(got, expected, strict=True):
            assert torch.equal(mine, theirs)
    uniforms = torch.rand(2, 1 + colors, 3, 41, generator=generator).to(dtype)
    drawn = logistic_mixture_sample(params, uniforms)
    assert torch.equal(logistic_mixture_sample(inside, uniforms), drawn)


def test_memory_formats() -> None:
    params = torch.randn(2, 20, 3, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    logistic_mixture_log_prob(params, torch.zeros(2, 3, 3, 5)).sum().backward()
    assert params.grad.is_contiguous(memory_format=torch.channels_last)
    drawn = logistic_mixture_sample(params, torch.full((2, 4, 3, 5), 0.5))
    assert drawn.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("colors", "mixtures"), [(3, 2), (1, 3), (3, 40)])
def test_channels_last_on_cuda_emulated(dtype: torch.dtype, colors: int, mixtures: int) -> None:
    """The path through shared memory (and, with 400 channels, that around it) gives the same bits."""
    generator = torch.Generator().manual_seed(0)
    channels = mixtures * (10 if colors == 3 else 3)
    params = torch.randn(2, channels, 9, 15, generator=generator).to(dtype)
    x = level_values(256, dtype)[torch.randint(0, 256, (2, colors, 9, 15), generator=generator)]
    with emulation() as module:
        plain = forward_backward(logistic_mixture_log_prob, [params, x], {}, [0])
        last = params.contiguous(memory_format=torch.channels_last)
        for schedule in (("reverse", 0), ("random", 1)):
            module.configure(*schedule)
            staged = forward_backward(logistic_mixture_log_prob, [last, x], {}, [0])
            for got, expected in zip(staged, plain, strict=True):
                assert torch.equal(got, expected)
        module.configure("forward", 0)
