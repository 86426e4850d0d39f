"""25 Gaussians on a grid, a GAN of them, and what its samples are worth."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genfast.models.adversarial.losses import AdversarialLoss, discriminator_loss, generator_loss
from genfast.sampling import keep_training

#: Standard deviation of each Gaussian; their centres are the points of {-2, -1, 0, 1, 2}^2.
SPREAD = 0.05
#: Points within so many standard deviations of a centre are of high quality.
WITHIN = 4.0
_SCALE, _LR, _AVERAGED, _R1 = 5.0, 1e-3, 0.005, 0.01
_GAME: AdversarialLoss = "non-saturating"


def centres() -> Tensor:
    """(25, 2).

    >>> centres()[:2].tolist()
    [[-2.0, -2.0], [-2.0, -1.0]]
    """
    line = torch.arange(-2.0, 3.0)
    return torch.cartesian_prod(line, line)


def draw_points(n: int, generator: torch.Generator | None = None) -> Tensor:
    """(n, 2) of the mixture, all centres equally likely."""
    which = torch.randint(25, (n,), generator=generator)
    return centres()[which] + SPREAD * torch.randn(n, 2, generator=generator)


@dataclass(frozen=True)
class Quality:
    """Of some points: the share of high quality, the centres that have such points, their spread."""

    high: float
    modes: int
    spread: float

    def __str__(self) -> str:
        return f"{self.high:.1%} of high quality, {self.modes} of 25 modes, std {self.spread:.3f}"


def quality(points: Tensor) -> Quality:
    """Judges points (N, 2).

    The spread is the standard deviation, per coordinate about the centre, of the points of high quality;
    of the mixture itself it is 0.05.

    >>> quality(draw_points(10_000, torch.Generator().manual_seed(0))).modes
    25
    """
    distance, nearest = torch.cdist(points.double(), centres().double()).min(1)
    high = distance <= WITHIN * SPREAD
    spread = (distance[high].square().mean() / 2).sqrt().item() if high.any() else float("nan")
    return Quality(high.double().mean().item(), len(nearest[high].unique()), spread)


class Discriminator(nn.Module):
    """Points (N, 2) -> logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron(1)

    def forward(self, points: Tensor) -> Tensor:
        # Larger numbers, so that a layer of usual weights tells points apart that are SPREAD apart.
        logits: Tensor = self.layers(_SCALE * points)
        return logits[:, 0]


def perceptron(outputs: int) -> nn.Sequential:
    """(N, 2) -> (N, outputs): three layers of 256 ReLUs."""
    layers: list[nn.Module] = []
    for inputs in (2, 256, 256):
        layers += [nn.Linear(inputs, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, outputs))


@dataclass(frozen=True)
class PointGAN:
    """z (N, 2), standard normal, -> points; and what tells them from real ones."""

    generator: nn.Sequential
    discriminator: Discriminator


def train(
    steps: int,
    *,
    seed: int = 0,
    batch_size: int = 256,
    further: int = 300,
    progress: Callable[[int], object] | None = None,
) -> PointGAN:
    """A GAN of the mixture: non-saturating, a learning rate that falls to 0, an averaged generator.

    A weak penalty on the discriminator's slope at real points (R1: Mescheder et al., "Which Training
    Methods for GANs do actually Converge?", 2018) keeps all modes; without it some are lost.

    Args:
        steps: of both players.
        seed: of torch's generator, which is put back as it was.
        batch_size: points a step.
        further: steps of the discriminator alone, against the averaged generator.
        progress: called with 1 after every step of both.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, discriminator = perceptron(2), Discriminator()
        averaged = copy.deepcopy(generator)
        of_discriminator, of_generator = (
            torch.optim.Adam(network.parameters(), betas=(0.5, 0.99))
            for network in (discriminator, generator)
        )
        for step in range(steps):
            rate = _LR * min(1.0, 2 * (1 - step / steps))
            real = draw_points(batch_size).requires_grad_()
            generated = generator(torch.randn(batch_size, 2))
            logits = discriminator(real), discriminator(generated.detach())
            slopes = torch.autograd.grad(logits[0].sum(), real, create_graph=True)[0]
            penalty = _R1 / 2 * slopes.square().sum(1).mean()
            _descend(discriminator_loss(*logits, _GAME) + penalty, of_discriminator, rate)
            _descend(generator_loss(discriminator(generated), _GAME), of_generator, rate)
            with torch.no_grad():
                for mean, weight in zip(averaged.parameters(), generator.parameters(), strict=True):
                    mean.lerp_(weight, _AVERAGED)
            if progress is not None:
                progress(1)
        keep_training(
            discriminator,
            draw_points,
            lambda n: averaged(torch.randn(n, 2)),
            steps=further,
            batch_size=512,
            lr=_LR / 3,
        )
    return PointGAN(averaged, discriminator)


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer, rate: float) -> None:
    (group,) = optimiser.param_groups
    group["lr"] = rate
    for weight, gradient in zip(
        group["params"], torch.autograd.grad(loss, group["params"]), strict=True
    ):
        weight.grad = gradient
    optimiser.step()
