"""What the two players of a GAN minimise, from the logits of the discriminator.

D(x) = sigmoid(logit) is the probability that x is real; logits rather than probabilities, so that no
logarithm of zero is ever taken. All results are means over the batch, in nats for the log losses.

Sources: Goodfellow et al., "Generative Adversarial Networks" (2014), equation 1, algorithm 1 and
section 3 (non-saturating); Mao et al., "Least Squares GANs" (2017), equation 9 with labels 0 and 1;
Arjovsky et al., "Wasserstein GAN" (2017), equations 2 and 3.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

AdversarialLoss = Literal["non-saturating", "minimax", "least-squares", "wasserstein"]


def check_loss(loss: str) -> None:
    """Raises `ValueError` if it is none of `AdversarialLoss`."""
    if loss not in get_args(AdversarialLoss):
        raise ValueError(f"loss must be one of {', '.join(get_args(AdversarialLoss))}, got {loss!r}")


def discriminator_loss(real: Tensor, fake: Tensor, loss: AdversarialLoss) -> Tensor:
    """What the discriminator minimises, 0-dim; the same for minimax and non-saturating.

    For logits a of real and b of generated samples: -E log D - E log(1 - D), which is the value
    function negated, so log 4 where it cannot tell the two apart; least squares E (a-1)^2 + E b^2;
    Wasserstein E b - E a.

    Args:
        real: logits of real samples, of any shape (a patch discriminator gives one a patch).
        fake: logits of generated samples.
        loss: which game.

    >>> undecided = torch.zeros(8)
    >>> round(discriminator_loss(undecided, undecided, "minimax").item(), 6)  # log 4
    1.386294
    """
    check_loss(loss)
    real, fake = _precise(real), _precise(fake)
    if loss == "wasserstein":
        return fake.mean() - real.mean()
    if loss == "least-squares":
        return (real - 1).square().mean() + fake.square().mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, loss: AdversarialLoss) -> Tensor:
    """What the generator minimises, 0-dim.

    Non-saturating -E log D(G(z)); minimax E log(1 - D(G(z))), whose gradient vanishes where the
    discriminator is sure; least squares E (b-1)^2; Wasserstein -E b.

    Args:
        fake: logits of generated samples, of any shape.
        loss: which game.

    >>> sure = torch.tensor([-20.0], requires_grad=True)
    >>> for loss in ("minimax", "non-saturating"):
    ...     (gradient,) = torch.autograd.grad(generator_loss(sure, loss), sure)
    ...     print(f"{gradient.item():.1e}")
    -2.1e-09
    -1.0e+00
    """
    check_loss(loss)
    fake = _precise(fake)
    if loss == "wasserstein":
        return -fake.mean()
    if loss == "least-squares":
        return (fake - 1).square().mean()
    return F.softplus(-fake).mean() if loss == "non-saturating" else -F.softplus(fake).mean()


def _precise(logits: Tensor) -> Tensor:
    """In fp32 at least: under autocast the logits are in 16 bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
