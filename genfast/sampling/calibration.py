"""What makes the logits of a discriminator log density ratios: calibration, and training it further.

Rejection sampling takes D's logit for log p_d / p_g. A discriminator that was trained against a moving
generator, or with another loss than the logistic one (hinge, least squares, Wasserstein), does not give
that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batches = Callable[[int], Tensor]  # how many -> samples


@dataclass(frozen=True)
class LinearCalibration:
    """slope * logit + intercept. The identity unless fitted.

    >>> from genfast.sampling import LinearCalibration
    >>> LinearCalibration()(3.0)
    3.0
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        return logits * self.slope + self.intercept

    @classmethod
    def fit(cls, real: Tensor, generated: Tensor) -> LinearCalibration:
        """Logistic regression of "real" on the logit (Platt scaling), on samples D has not learned from.

        Source: Turner et al., "Metropolis-Hastings Generative Adversarial Networks" (2019), section 4.2.

        Args:
            real, generated: (N,) and (M,), logits of real and of generated samples; the two kinds weigh
                the same, whatever N and M.

        Raises:
            ValueError: no logits, or NaN or infinite ones, or the two kinds are separated by a
                threshold, so that no finite slope is best.

        >>> import torch
        >>> from genfast.sampling import LinearCalibration
        >>> x = torch.randn(10000, generator=torch.Generator().manual_seed(0))
        >>> over_confident = 5 * (x + 0.5), 5 * (x - 0.5)  # the log density ratio at x is x itself
        >>> round(LinearCalibration.fit(*over_confident).slope, 1)
        0.2
        """
        for name, logits in (("real", real), ("generated", generated)):
            if logits.numel() == 0 or not logits.isfinite().all():
                raise ValueError(f"{name} must hold finite logits, and at least one")
        real, generated = real.detach().double().flatten(), generated.detach().double().flatten()
        if max(real.min() - generated.max(), generated.min() - real.max()) >= 0:
            raise ValueError("a threshold separates real from generated: D needs fresh samples, or more")
        x = torch.cat([real, generated])
        center, scale = x.mean(), x.std().clamp(min=1e-12)
        x = torch.stack([(x - center) / scale, torch.ones_like(x)], 1)
        is_real = torch.cat([torch.ones_like(real), torch.zeros_like(generated)])
        weight = torch.where(is_real > 0, 0.5 / len(real), 0.5 / len(generated))
        theta = torch.zeros(2, dtype=torch.float64, device=x.device)

        def loss(theta: Tensor) -> Tensor:
            return F.binary_cross_entropy_with_logits(x @ theta, is_real, weight, reduction="sum")

        for _ in range(100):  # Newton's method, with steps halved while they lead up
            p = torch.sigmoid(x @ theta)
            gradient = x.T @ (weight * (p - is_real))
            hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-12 * torch.eye(2).to(x)
            step = torch.linalg.solve(hessian, gradient)
            while loss(theta - step) > loss(theta) and step.abs().max() > 1e-12:
                step = step / 2
            theta = theta - step
            if step.abs().max() <= 1e-10:
                break
        slope = float(theta[0] / scale)
        return cls(slope, float(theta[1] - slope * center))


def with_head(features: nn.Module, inputs: int, *, hidden: int = 64, layers: int = 2) -> nn.Sequential:
    """A network and, on top, a head whose output is a logit: for a critic that gives none.

    `keep_training` leaves the network as it is, its running statistics too, and trains the head.

    Args:
        features: samples (N, ...) -> (N, inputs), or (N,) for inputs=1: a critic, or what it has before
            its last layer.
        inputs: numbers that it gives.
        hidden, layers: of the head, ReLU layers.

    >>> import torch
    >>> from genfast.sampling import with_head
    >>> with_head(torch.nn.Linear(2, 1), 1)(torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    for name, value in (("inputs", inputs), ("hidden", hidden), ("layers", layers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    widths = [inputs, *[hidden] * layers]
    inner: list[nn.Module] = [nn.Flatten(0), nn.Unflatten(0, (-1, 1))] if inputs == 1 else []
    for before, after in pairwise(widths):
        inner += [nn.Linear(before, after), nn.ReLU()]
    head = nn.Sequential(*inner, nn.Linear(widths[-1], 1), nn.Flatten(0))
    weight = next(features.parameters(), None)
    if weight is not None:
        head.to(weight.device, weight.dtype)
    return nn.Sequential(_Fixed(features), head)


class _Fixed(nn.Module):
    """A network without gradients and always in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> _Fixed:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.network(x)
        return outputs


def keep_training(
    discriminator: nn.Module,
    real: Batches,
    generated: Batches,
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 1e-4,
) -> list[float]:
    """Trains a discriminator further, with the logistic loss and the generator fixed.

    The "KeepTraining" of algorithm 1 of Azadi et al. (2018): rejection sampling needs the D that is
    optimal for this generator. It is also what gives a hinge or Wasserstein critic a logit, by a head
    (`with_head`) that is trained so. Adam on the weights that ask for gradients.

    Args:
        discriminator: samples (N, ...) -> logits (N,); left in the mode (training or not) it was in.
        real, generated: called with a number, give so many samples; no gradient reaches them.
        steps, batch_size, lr: of the training; so many samples of each kind a step.

    Returns:
        The loss of each step in nats: log 2 where D cannot tell the two apart, if each kind weighs half.

    Raises:
        ValueError: a number out of its range, or no weight that asks for gradients.

    >>> import torch
    >>> from genfast.sampling import keep_training
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...
    >>> d = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
    >>> losses = keep_training(
    ...     d, lambda n: torch.randn(n, 1) + 2, lambda n: torch.randn(n, 1), steps=200, lr=0.05
    ... )
    >>> losses[-1] < losses[0]
    True
    """
    if steps < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(f"steps={steps}, batch_size={batch_size} and lr={lr} must be positive")
    weights = [weight for weight in discriminator.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("discriminator has no weight that asks for a gradient")
    optimiser = torch.optim.Adam(weights, lr=lr)
    was_training, losses = discriminator.training, []
    discriminator.train()
    try:
        for _ in range(steps):
            with torch.no_grad():
                x, y = real(batch_size), generated(batch_size)
            optimiser.zero_grad()
            loss = (F.softplus(-discriminator(x)).mean() + F.softplus(discriminator(y)).mean()) / 2
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    finally:
        discriminator.train(was_training)
    return losses
