"""Latents that depend on nothing but their key."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genfast.sampling.philox import uniforms

#: (how many, seed, number of the first) -> latents; a latent depends on the seed and its number alone.
Latents = Callable[[int, int, int], Tensor]


def normal_latents(latent_dim: int, device: torch.device | str = "cpu") -> Latents:
    """z ~ N(0, 1) of so many numbers, a function of (how many, seed, number of the first).

    >>> from genfast.sampling import normal_latents
    >>> z = normal_latents(3)
    >>> z(5, 7, 0)[4].equal(z(1, 7, 4)[0])
    True
    """

    def latents(n: int, seed: int, first: int) -> Tensor:
        numbers = torch.arange(first, first + n, device=device)
        z: Tensor = torch.special.ndtri(uniforms(seed, numbers, 0, latent_dim, dtype=torch.float64))
        return z.float()

    return latents
