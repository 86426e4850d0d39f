"""Noise for samples: a vector depends on the seed and the number of its image alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from genfast.sampling import uniforms

Prior = Literal["normal", "uniform"]


def numbered_noise(n: int, dim: int, prior: Prior, *, seed: int, start: int, like: Tensor) -> Tensor:
    """(n, dim) of N(0, 1) or uniform on (-1, 1), for the images start, start + 1, ...

    By inverse CDF from counter-based uniforms. Device and dtype are those of `like`.

    >>> whole = numbered_noise(3, 2, "normal", seed=5, start=0, like=torch.zeros(1))
    >>> torch.equal(whole[1:], numbered_noise(2, 2, "normal", seed=5, start=1, like=torch.zeros(1)))
    True
    """
    numbers = torch.arange(start, start + n, device=like.device)
    draws = uniforms(seed, numbers, 0, dim, dtype=torch.float64)
    z = torch.special.ndtri(draws) if prior == "normal" else draws * 2 - 1
    return z.to(like.dtype)
