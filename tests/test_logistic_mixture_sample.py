"""Draws from the logistic mixture: they have the distribution that the log-likelihood says."""

from __future__ import annotations

import math

import pytest
import torch
from mixtures import grey_params, level_values
from torch import Tensor

from genfast.ops import logistic_mixture_log_prob, logistic_mixture_sample


def chi_square_excess(counts: Tensor, probabilities: Tensor) -> float:
    """(chi^2 - degrees of freedom) / its standard deviation; cells expecting fewer than 5 are pooled."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    keep = expected > 0
    statistic = ((counts - expected)[keep] ** 2 / expected[keep]).sum().item()
    degrees = int(keep.sum()) - 1
    return (statistic - degrees) / math.sqrt(2 * degrees)


def draw(params: Tensor, count: int, colors: int, levels: int) -> Tensor:
    """Levels (C, count) drawn for one pixel's params (1, C', 1, 1)."""
    uniforms = torch.rand(1, 1 + colors, 1, count, generator=torch.Generator().manual_seed(1))
    x = logistic_mixture_sample(params.expand(-1, -1, 1, count), uniforms, levels=levels)
    drawn = (x[0, :, 0].double() + 1) * (levels - 1) / 2
    assert (drawn - drawn.round()).abs().max() <= 1e-4
    return drawn.round().long()


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_grey_draws_have_the_right_distribution(isa: str, levels: int) -> None:
    means = torch.tensor([[-1.1, -0.5, 0.0, 0.8]])
    params = grey_params(
        means, torch.tensor([[-2.0, -3.0, -1.0, -7.0]]), torch.tensor([[0.0, 1, 0.5, -1]])
    )
    counts = torch.bincount(draw(params, 200_000, 1, levels)[0], minlength=levels).double()
    x = level_values(levels).view(1, 1, 1, levels)
    wide = params.double().expand(-1, -1, 1, levels)
    probabilities = logistic_mixture_log_prob(wide, x, levels=levels).exp().flatten()
    assert abs(chi_square_excess(counts, probabilities)) < 4


def test_colour_draws_have_the_right_distribution(isa: str) -> None:
    """512 colours of 8 levels each, with strong coupling."""
    levels, generator = 8, torch.Generator().manual_seed(2)
    params = torch.randn(1, 30, 1, 1, generator=generator)
    params[:, 3:].unflatten(1, (3, 3, 3))[:, :, 1] -= 1.5
    red, green, blue = draw(params, 200_000, 3, levels)
    counts = torch.bincount((red * levels + green) * levels + blue, minlength=levels**3).double()
    x = torch.cartesian_prod(*[level_values(levels)] * 3).T[None, :, None]
    wide = params.double().expand(-1, -1, 1, levels**3)
    probabilities = logistic_mixture_log_prob(wide, x, levels=levels).exp().flatten()
    assert abs(chi_square_excess(counts, probabilities)) < 4


def test_the_distribution_test_sees_a_shift_of_two_percent() -> None:
    probabilities = torch.full((16,), 1 / 16, dtype=torch.float64)
    counts = 200_000 * probabilities
    counts[:8] *= 1.02
    counts[8:] *= 0.98
    assert chi_square_excess(counts, probabilities) > 4


def test_component_is_the_first_above_the_uniform(isa: str) -> None:
    """The inverse of the cumulative distribution: 1/8, 1/8, 1/4, 1/2; zero weight is never drawn."""
    logits = torch.tensor([[1.0, 1.0, 0.0, 2.0, 4.0]]).log()
    params = grey_params(torch.tensor([[-1.0, -0.5, 0.1, 0.5, 1.0]]), -7.0, logits.clamp(min=-1e4))
    u = torch.tensor([0.01, 0.124, 0.126, 0.249, 0.251, 0.499, 0.501, 0.999999])
    uniforms = torch.stack([u, torch.full_like(u, 0.5)])[None, :, None]
    x = logistic_mixture_sample(params.expand(-1, -1, 1, 8), uniforms, quantize=False)
    assert x.flatten().tolist() == [-1, -1, -0.5, -0.5, 0.5, 0.5, 1, 1]


def test_draws_lie_on_the_grid_that_models_see(isa: str) -> None:
    params, uniforms = torch.randn(2, 50, 8, 8), torch.rand(2, 4, 8, 8)
    x = logistic_mixture_sample(params, uniforms)
    grid = 2 * torch.arange(256.0) / 255 - 1
    assert torch.isin(x, grid).all()
    free = logistic_mixture_sample(params, uniforms, quantize=False)
    assert not torch.isin(free, grid).all()
    assert free.abs().max() <= 1


@pytest.mark.parametrize("uniform", [0.0, 1.0])
def test_uniforms_at_the_ends(isa: str, uniform: float) -> None:
    """Rounding may make a uniform 0 or 1: the draw is then an extreme one, not NaN."""
    params = grey_params(torch.zeros(1, 3), 0.0)
    x = logistic_mixture_sample(params, torch.full((1, 2, 1, 1), uniform))
    assert x.item() == (1 if uniform else -1)


def test_draws_carry_no_gradient() -> None:
    params = torch.randn(1, 10, 2, 2, requires_grad=True)
    assert not logistic_mixture_sample(params, torch.rand(1, 4, 2, 2)).requires_grad
