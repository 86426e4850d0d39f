"""A GAN learns one Gaussian on a line: small enough to be looked at whole.

The classic first experiment: x ~ N(-1, 1), noise ~ U(0, 1), two perceptrons of 11 hidden units a layer,
the discriminator trained alone first. The bare game circles around its solution and loses the width;
what lets it arrive is a penalty on the discriminator's slope at real samples (R1; Mescheder et al.,
"Which Training Methods for GANs do actually Converge?", 2018, equation 9).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genfast.data.extras import require
from genfast.models.adversarial.losses import AdversarialLoss, discriminator_loss, generator_loss
from genfast.training.files import write_atomically

MEAN, DEVIATION = -1.0, 1.0
_HIDDEN = 11


@dataclass(frozen=True)
class GaussianDemo:
    """The trained players, and the discriminator as it was before the generator moved."""

    generator: nn.Module
    discriminator: nn.Module
    first_discriminator: nn.Module

    @torch.no_grad()
    def samples(self, n: int) -> Tensor:
        """(n,): G at the midpoints of n equal parts of (0, 1)."""
        z = (torch.arange(n) + 0.5) / n
        samples: Tensor = self.generator(z.unsqueeze(1)).squeeze(1)
        return samples


def train_gaussian_demo(
    *,
    steps: int = 2000,
    batch_size: int = 128,
    seed: int = 0,
    slope_penalty: float = 1.0,
    loss: AdversarialLoss = "non-saturating",
) -> GaussianDemo:
    """Train it on the CPU; torch's generator is left alone. A matter of seconds.

    Args:
        steps: of each player, after 200 of the discriminator against the target's own range.
        batch_size: samples a step.
        seed: of weights and samples.
        slope_penalty: weight of half the mean squared slope of the discriminator at real samples.
        loss: the game.

    >>> demo = train_gaussian_demo(steps=1)
    >>> demo.samples(5).shape
    torch.Size([5])
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        generator, discriminator = _perceptron(nn.Softplus), _perceptron(nn.Tanh)
        players = [
            torch.optim.Adam(network.parameters(), rate, betas=(0.0, 0.999))
            for network, rate in ((discriminator, 5e-3), (generator, 1e-3))
        ]
        _pretrain(discriminator, players[0], batch_size)
        first = _perceptron(nn.Tanh)
        first.load_state_dict(discriminator.state_dict())
        schedules = [torch.optim.lr_scheduler.LinearLR(p, 1.0, 0.02, steps) for p in players]
        for _ in range(steps):
            real = (MEAN + DEVIATION * torch.randn(batch_size, 1)).requires_grad_()
            fake = generator(_noise(batch_size))
            judged = discriminator(real)
            of_discriminator = discriminator_loss(judged, discriminator(fake.detach()), loss)
            (slope,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
            of_discriminator = of_discriminator + slope_penalty / 2 * slope.square().mean()
            _descend(players[0], of_discriminator, discriminator)
            _descend(players[1], generator_loss(discriminator(fake), loss), generator)
            for schedule in schedules:
                schedule.step()
    return GaussianDemo(generator, discriminator, first)


def save_gaussian_demo(path: str | Path, demo: GaussianDemo) -> None:
    """Draw densities and decision boundaries before and after, and the map of the noise, as PNG."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = torch.linspace(MEAN - 4 * DEVIATION, MEAN + 4 * DEVIATION, 400)
    density = torch.distributions.Normal(MEAN, DEVIATION).log_prob(x).exp()
    samples = demo.samples(10_000)
    with torch.no_grad():
        before, after = (
            net(x.unsqueeze(1)).sigmoid().squeeze(1)
            for net in (demo.first_discriminator, demo.discriminator)
        )
    left.plot(x, density, label="target N(-1, 1)")
    left.hist(samples, bins=80, density=True, alpha=0.4, label="generated")
    left.plot(x, before, ":", label="D before the game")
    left.plot(x, after, label="D after it (1/2: cannot tell)")
    left.set(xlabel="x", xlim=(float(x[0]), float(x[-1])), ylim=(0, 1.05))
    left.legend(frameon=False, fontsize=8)
    z = (torch.arange(10_000) + 0.5) / 10_000
    right.plot(z, samples, label="G(z)")
    right.plot(z, MEAN + DEVIATION * torch.special.ndtri(z), "--", label="quantiles of the target")
    right.set(xlabel="z ~ U(0, 1)", ylabel="x")
    right.legend(frameon=False, fontsize=8)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=140)
    write_atomically(path, encoded.getvalue())


def _perceptron(unit: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(1, _HIDDEN), unit(), nn.Linear(_HIDDEN, _HIDDEN), unit(), nn.Linear(_HIDDEN, 1)
    )


def _noise(n: int) -> Tensor:
    """(n, 1): a uniform draw in each of n equal parts of (0, 1), so that a batch covers it."""
    return ((torch.arange(n) + torch.rand(n)) / n).unsqueeze(1)


def _pretrain(discriminator: nn.Module, player: torch.optim.Optimizer, batch_size: int) -> None:
    """Against points that are uniform within five deviations of the target's mean."""
    for _ in range(200):
        real = MEAN + DEVIATION * torch.randn(batch_size, 1)
        other = MEAN + DEVIATION * 5 * (2 * torch.rand(batch_size, 1) - 1)
        loss = discriminator_loss(discriminator(real), discriminator(other), "minimax")
        _descend(player, loss, discriminator)


def _descend(player: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    player.zero_grad(set_to_none=True)
    loss.backward(inputs=list(network.parameters()))
    player.step()
