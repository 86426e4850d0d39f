"""WGAN: bounded critics, their schedule, and the gradient penalty against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfast.models import WGAN
from genfast.models.adversarial import gradient_penalty
from genfast.models.adversarial.losses import discriminator_loss
from genfast.models.adversarial.wgan import critic_steps

SHAPE = (1, 8, 8)


def tiny(**changes: Any) -> WGAN:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"network": "dense", "width": 8, "latent_dim": 4}
    return WGAN(SHAPE, levels=17, **settings | changes)


# -- clipping --------------------------------------------------------------------------------------


def test_weights_are_in_the_box_before_the_critic_moves() -> None:
    model = tiny(clip=0.02)
    before = [weight.clone() for weight in model.generator.parameters()]
    assert max(weight.abs().max() for weight in model.discriminator.parameters()) > 0.02
    model.before_turn("generator")
    assert max(weight.abs().max() for weight in model.discriminator.parameters()) > 0.02
    model.before_turn("discriminator")
    for weight in model.discriminator.parameters():
        assert weight.abs().max() <= 0.02
    pairs = zip(before, model.generator.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
    free = tiny(constraint="penalty", clip=0.02)
    free.before_turn("discriminator")
    assert max(weight.abs().max() for weight in free.discriminator.parameters()) > 0.02


def test_the_critic_has_the_published_turns() -> None:
    """The reference: 100 critic steps for generator steps 0..24 and each multiple of 500, else 5."""
    model = tiny()
    expected = [100 if g < 25 or g % 500 == 0 else 5 for g in range(1010)]
    assert critic_steps(1010, 5) == sum(expected)
    turns = [model.turns(step) for step in range(sum(expected))]
    found, critic = [], 0
    for players in turns:
        critic += 1
        if players == ("discriminator", "generator"):
            found.append(critic)
            critic = 0
    assert found == expected


def test_with_the_penalty_turns_are_even() -> None:
    model = tiny(constraint="penalty")
    assert ["generator" in model.turns(step) for step in range(10)] == ([False] * 4 + [True]) * 2


def test_a_linear_clipped_critic_measures_c_times_the_distance() -> None:
    """f(x) = w x with |w| <= c: the maximum of E f(real) - E f(fake) is c W1 for a shift."""
    clip, shift = 0.05, 3.0
    real = torch.randn(4000, 1, dtype=torch.float64)
    fake = real[torch.randperm(4000)] - shift
    critic = nn.Linear(1, 1).double()
    optimiser = torch.optim.RMSprop(critic.parameters(), 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        discriminator_loss(critic(real), critic(fake), "wasserstein").backward()
        optimiser.step()
        with torch.no_grad():
            for weight in critic.parameters():
                weight.clamp_(-clip, clip)
    estimate = -discriminator_loss(critic(real), critic(fake), "wasserstein").item()
    assert estimate == pytest.approx(clip * shift, rel=1e-12)


@pytest.mark.parametrize("constraint", ["clipping", "penalty"])
def test_the_critic_has_no_sigmoid_and_no_logarithm(constraint: Any) -> None:
    """Its loss is linear in its values: scaling the last layer scales the loss."""
    model = tiny(constraint=constraint).double()
    assert not any(isinstance(module, nn.Sigmoid) for module in model.modules())
    x = torch.rand(6, *SHAPE, dtype=torch.float64)
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        losses.append(model.held_out_loss(x).item())
        with torch.no_grad():
            for weight in list(model.discriminator.parameters())[-2:]:
                weight.mul_(3)
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-9)


# -- the penalty -----------------------------------------------------------------------------------


def critic_of(seed: int, *, convolutional: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    if convolutional:
        layers = [nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(100, 1)]
    else:
        layers = [nn.Flatten(), nn.Linear(50, 16), nn.Softplus(), nn.Linear(16, 1)]
    return nn.Sequential(*layers, nn.Flatten(0)).double()


def batch(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    real, fake = torch.randn(2, n, 2, 5, 5, dtype=torch.float64)
    return real, fake, torch.rand(n, dtype=torch.float64)


@pytest.mark.parametrize("convolutional", [False, True])
def test_the_norm_is_each_samples_own_slope(convolutional: bool) -> None:
    """Against central differences of each sample alone, along every axis of it."""
    critic = critic_of(0, convolutional=convolutional)
    real, fake, mixing = batch()
    expected = []
    for r, f, m in zip(real, fake, mixing, strict=True):
        point, step = m * r + (1 - m) * f, 1e-5
        offsets = step * torch.eye(50, dtype=torch.float64).view(50, 2, 5, 5)
        slopes = (critic(point + offsets) - critic(point - offsets)) / (2 * step)
        expected.append((slopes.norm() - 1) ** 2)
    penalty = gradient_penalty(critic, real, fake, mixing)
    torch.testing.assert_close(penalty, torch.stack(expected).mean(), rtol=1e-7, atol=0)


def test_the_penalty_does_not_know_the_batch() -> None:
    critic, (real, fake, mixing) = critic_of(1), batch(6)
    whole = gradient_penalty(critic, real, fake, mixing)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(gradient_penalty(critic, real[order], fake[order], mixing[order]), whole)
    parts = [gradient_penalty(critic, real[p], fake[p], mixing[p]) for p in (slice(2), slice(2, 6))]
    torch.testing.assert_close((2 * parts[0] + 4 * parts[1]) / 6, whole)


@pytest.mark.parametrize("convolutional", [False, True])
def test_its_gradient_with_respect_to_the_weights_is_right(convolutional: bool) -> None:
    """The double backward, by central differences."""
    critic, (real, fake, mixing) = critic_of(2, convolutional=convolutional), batch()
    gradient_penalty(critic, real, fake, mixing).backward()
    for weight in critic.parameters():
        for place in (0, weight.numel() // 2):
            flat = weight.data.view(-1)
            sides = []
            for step in (1e-5, -1e-5):
                flat[place] += step
                sides.append(gradient_penalty(critic, real, fake, mixing).item())
                flat[place] -= step
            found = 0.0 if weight.grad is None else weight.grad.view(-1)[place].item()
            assert found == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_the_penalised_optimum_is_reached(shift: float) -> None:
    """Between point masses: the slope is 1 + S / (2 lambda), so the estimate S (1 + S / (2 lambda))."""
    weight = 10.0
    torch.manual_seed(0)
    critic = nn.Sequential(
        nn.Linear(1, 32),
        nn.Softplus(),
        nn.Linear(32, 32),
        nn.Softplus(),
        nn.Linear(32, 1),
        nn.Flatten(0),
    )
    steps = 400
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3, betas=(0.0, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    real, fake = torch.full((64, 1), shift), torch.zeros(64, 1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = discriminator_loss(critic(real), critic(fake), "wasserstein")
        (loss + weight * gradient_penalty(critic, real, fake)).backward()
        optimiser.step()
        schedule.step()
    estimate = -discriminator_loss(critic(real), critic(fake), "wasserstein").item()
    assert estimate == pytest.approx(shift * (1 + shift / (2 * weight)), rel=0.01)


def test_the_penalty_under_autocast_is_that_of_fp32() -> None:
    critic = critic_of(3).float()
    real, fake, mixing = (tensor.float() for tensor in batch())
    plain = gradient_penalty(critic, real, fake, mixing)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(gradient_penalty(critic, real, fake, mixing), plain, rtol=0, atol=0)


def test_the_models_loss_is_the_difference_and_lambda_penalties() -> None:
    model = tiny(constraint="penalty", penalty=7.0).double()
    x = torch.rand(6, *SHAPE, dtype=torch.float64)
    torch.manual_seed(5)
    loss = model.discriminator_loss(x)
    torch.manual_seed(5)
    fake = model.generate(model.noise(6)).detach()
    expected = model.logits(fake).mean() - model.logits(2 * x - 1).mean()
    expected = expected + 7.0 * gradient_penalty(model.logits, 2 * x - 1, fake)
    torch.testing.assert_close(loss, expected)


def test_the_penalised_convolutional_critic_judges_each_sample_alone() -> None:
    model = tiny(constraint="penalty", network="convolutional", width=4)
    x = torch.rand(4, *SHAPE) * 2 - 1
    torch.testing.assert_close(model.logits(x)[:1], model.logits(x[:1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraint": "spectral"}, "constraint must be 'clipping' or 'penalty', got 'spectral'"),
        ({"clip": 0.0}, r"clip must be greater than 0, got 0\.0"),
        ({"penalty": math.nan}, "penalty must be greater than 0, got nan"),
        ({"network": "deep"}, "network must be 'dense' or 'convolutional', got 'deep'"),
        ({"width": 0}, "width must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_shapes_that_do_not_fit_are_named() -> None:
    critic = critic_of(0)
    real, fake, mixing = batch()
    with pytest.raises(ValueError, match="real and fake must have one shape"):
        gradient_penalty(critic, real, fake[:2])
    with pytest.raises(ValueError, match=r"mixing must have shape \(5,\), got \(2,\)"):
        gradient_penalty(critic, real, fake, mixing[:2])
