"""Divergences between discrete distributions, and the quantities of the GAN game, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from genfast.ops import _native

_TOLERANCE = 1e-4  # relative: of totals that should agree


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence sum p log(p / q) in nats, over the last dimension.

    Args:
        p, q: (..., K), non-negative with equal totals (probabilities, or masses); floating dtypes, and
            shapes that broadcast.

    Returns:
        (...). Where p is 0 the term is 0; where only q is 0 the divergence is inf.

    Raises:
        TypeError: not floating tensors, or dtypes differ.
        ValueError: shapes do not broadcast, devices or totals differ, a mass is negative or NaN.

    >>> import torch
    >>> from genfast.divergences import kl
    >>> kl(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])).item()  # log 2
    0.6931471824645996
    >>> kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).item()
    inf
    """
    p, q = _pair(p, q)
    return _kl(p, q)


def js(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, in nats.

    Between 0 and log 2 for probabilities; log 2 where the supports are disjoint. Arguments, result and
    errors as those of `kl`.

    >>> import torch
    >>> from genfast.divergences import js
    >>> js(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).item()  # log 2
    0.6931471824645996
    """
    p, q = _pair(p, q)
    m = (p + q) / 2
    return _kl(p, m) / 2 + _kl(q, m) / 2


def wasserstein_1d(p: Tensor, q: Tensor) -> Tensor:
    """Earth mover's distance between masses on a line whose bins are a unit apart.

    The sum of |cumulative difference|, which is how much earth passes each boundary.

    Args:
        p, q: (..., K), non-negative masses as given: equal totals, which need not be 1.

    Returns:
        (...), mass times bins. Errors as those of `kl`.

    >>> import torch
    >>> from genfast.divergences import wasserstein_1d
    >>> wasserstein_1d(torch.tensor([3.0, 2, 1, 4]), torch.tensor([1.0, 2, 4, 3])).item()
    5.0
    """
    p, q = _pair(p, q)
    return (p - q).cumsum(-1)[..., :-1].abs().sum(-1)


def optimal_discriminator(p_r: Tensor, p_g: Tensor) -> Tensor:
    """The discriminator that the GAN game's inner maximum has: p_r / (p_r + p_g), element by element.

    Source: Goodfellow et al., "Generative Adversarial Networks" (2014), proposition 1.

    Args:
        p_r, p_g: densities or probabilities of the data and of the generator at the same points, any
            shapes that broadcast; they need not have a total.

    Returns:
        The probability of "real"; 1/2 where both are 0, where any value is optimal.

    >>> import torch
    >>> from genfast.divergences import optimal_discriminator
    >>> optimal_discriminator(torch.tensor([0.3, 0.0]), torch.tensor([0.1, 0.0])).tolist()
    [0.75, 0.5]
    """
    p_r, p_g = _broadcast("p_r", p_r, "p_g", p_g)
    both = p_r + p_g
    return torch.where(both > 0, p_r / both.masked_fill(both == 0, 1), 0.5)


def gan_value(p_r: Tensor, p_g: Tensor, discriminator: Tensor | None = None) -> Tensor:
    """The value V(G, D) = E_r log D + E_g log(1 - D) of the GAN game in nats: min over G of max over D.

    With the optimal discriminator it is 2 JS(p_r, p_g) - 2 log 2, whose minimum, at p_g = p_r, is
    -2 log 2 = -1.386.

    Source: Goodfellow et al. (2014), eq. 1, theorem 1.

    Args:
        p_r, p_g: (..., K) probabilities of the data and of the generator.
        discriminator: (..., K), D in [0, 1]; the optimal one if None.

    Returns:
        (...). Errors as those of `kl`, and ValueError for a D outside [0, 1].

    >>> import torch
    >>> from genfast.divergences import gan_value
    >>> p = torch.tensor([0.25, 0.75])
    >>> round(gan_value(p, p).item(), 6)
    -1.386294
    """
    p_r, p_g = _pair(p_r, p_g, names=("p_r", "p_g"))
    if discriminator is None:
        discriminator = optimal_discriminator(p_r, p_g)
    _, discriminator = _broadcast("p_r", p_r, "discriminator", discriminator)
    if not ((discriminator >= 0) & (discriminator <= 1)).all():
        raise ValueError("discriminator must be a probability in [0, 1]; pass the sigmoid of a logit")
    return (torch.xlogy(p_r, discriminator) + torch.xlogy(p_g, 1 - discriminator)).sum(-1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    known = p > 0
    return (p * (torch.where(known, p, 1).log() - torch.where(known, q, 1).log())).sum(-1)


def _pair(p: Tensor, q: Tensor, names: tuple[str, str] = ("p", "q")) -> tuple[Tensor, Tensor]:
    """Both broadcast, and checked to be masses with equal totals."""
    p, q = _broadcast(names[0], p, names[1], q)
    if p.ndim == 0:
        raise ValueError(f"{names[0]} must have at least one dimension, got shape ()")
    for name, mass in zip(names, (p, q), strict=True):
        if not (mass >= 0).all():
            raise ValueError(f"{name} must not have negative or NaN masses")
    totals = p.detach().double().sum(-1), q.detach().double().sum(-1)
    if not torch.allclose(*totals, rtol=_TOLERANCE, atol=0):
        worst = int((totals[0] - totals[1]).abs().argmax())
        found = [format(total.flatten()[worst].item(), "g") for total in totals]
        raise ValueError(
            f"{names[0]} and {names[1]} must have equal totals, got {found[0]} and {found[1]}"
        )
    return p, q


def _broadcast(p_name: str, p: Tensor, q_name: str, q: Tensor) -> tuple[Tensor, Tensor]:
    _native.check_tensor(p_name, p)
    _native.check_tensor(q_name, q)
    _native.check_like(q_name, q, p_name, p)
    try:
        p, q = torch.broadcast_tensors(p, q)
    except RuntimeError:
        raise ValueError(
            f"{q_name} of shape {tuple(q.shape)} does not broadcast with {p_name} of {tuple(p.shape)}"
        ) from None
    return p, q
