"""Losses of the two players against closed forms, on densities that are known."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from genfast.models.adversarial.losses import AdversarialLoss, discriminator_loss, generator_loss

LOSSES = get_args(AdversarialLoss)
REAL, FAKE = Normal(0.0, 1.0), Normal(1.5, 0.7)


def optimal_logits(x: Tensor) -> Tensor:
    """The logit of D* = p_r / (p_r + p_g)."""
    return REAL.log_prob(x) - FAKE.log_prob(x)


def jensen_shannon() -> float:
    """Between the two, nats, by quadrature in fp64."""
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    p, q = (law.log_prob(x).exp() for law in (REAL, FAKE))
    middle = (p + q) / 2
    terms = sum(torch.where(d > 0, d * (d / middle).log(), 0.0) for d in (p, q))
    assert isinstance(terms, Tensor)
    return torch.trapezoid(terms, x).item() / 2


def samples(n: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return REAL.sample((n,)).double(), FAKE.sample((n,)).double()


def test_at_the_optimal_discriminator_the_value_is_twice_js_minus_two_log_two() -> None:
    n = 1_000_000
    real, fake = samples(n)
    value = -discriminator_loss(optimal_logits(real), optimal_logits(fake), "minimax").item()
    assert value == pytest.approx(2 * jensen_shannon() - 2 * math.log(2), abs=5 / math.sqrt(n))


def test_no_other_discriminator_is_better() -> None:
    real, fake = samples(100_000)
    best = discriminator_loss(optimal_logits(real), optimal_logits(fake), "minimax").item()
    for scale, shift in ((0.8, 0.0), (1.25, 0.0), (1.0, 0.2), (1.0, -0.2)):
        logits = [scale * optimal_logits(x) + shift for x in (real, fake)]
        assert discriminator_loss(*logits, "minimax").item() > best


def test_equal_distributions_give_minus_log_four() -> None:
    x, y = REAL.sample((2, 1000))
    zero = torch.zeros_like
    assert -discriminator_loss(zero(x), zero(y), "minimax").item() == pytest.approx(-1.386294, abs=1e-6)


def test_the_losses_are_the_formulas() -> None:
    a, b = torch.randn(2, 50, dtype=torch.float64)
    real, fake = a.sigmoid(), b.sigmoid()
    log_loss = -(real.log().mean() + (1 - fake).log().mean())
    for loss in ("minimax", "non-saturating"):
        torch.testing.assert_close(discriminator_loss(a, b, loss), log_loss)
    torch.testing.assert_close(generator_loss(b, "minimax"), (1 - fake).log().mean())
    torch.testing.assert_close(generator_loss(b, "non-saturating"), -fake.log().mean())
    squares = (a - 1).square().mean() + b.square().mean()
    torch.testing.assert_close(discriminator_loss(a, b, "least-squares"), squares)
    torch.testing.assert_close(generator_loss(b, "least-squares"), (b - 1).square().mean())
    torch.testing.assert_close(discriminator_loss(a, b, "wasserstein"), b.mean() - a.mean())
    torch.testing.assert_close(generator_loss(b, "wasserstein"), -b.mean())


def test_the_minimax_gradient_vanishes_where_the_other_does_not() -> None:
    """d/db log(1 - sigmoid b) = -sigmoid b; d/db -log sigmoid b = sigmoid b - 1."""
    b = torch.tensor([-30.0, -5.0, 0.0, 5.0], dtype=torch.float64, requires_grad=True)
    minimax, other = (
        torch.autograd.grad(generator_loss(b, loss) * len(b), b)[0]
        for loss in ("minimax", "non-saturating")
    )
    torch.testing.assert_close(minimax, -b.detach().sigmoid())
    torch.testing.assert_close(other, b.detach().sigmoid() - 1)
    assert minimax[0].abs() < 1e-12 < 0.99 < other[0].abs()


@pytest.mark.parametrize("loss", LOSSES)
def test_logits_of_any_size_give_finite_losses_in_fp32(loss: AdversarialLoss) -> None:
    logits = torch.tensor([-1e4, 0.0, 1e4])
    for half in (logits, logits.bfloat16()):
        for value in (discriminator_loss(half, half.flip(0), loss), generator_loss(half, loss)):
            assert value.dtype == torch.float32
            assert value.isfinite()


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match=r"loss must be one of non-saturating, minimax, .* got 'hinge'"):
        generator_loss(torch.zeros(1), "hinge")  # type: ignore[arg-type]
