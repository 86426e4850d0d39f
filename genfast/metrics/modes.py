"""How well samples cover a mixture whose modes are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModeCounts:
    """`counts` (K,) of the high-quality samples at each mode, of `total` samples.

    `deviation` is the standard deviation of high-quality samples around their modes, over all axes.
    """

    counts: Tensor
    total: int
    deviation: float

    @property
    def covered(self) -> int:
        """Modes with at least one high-quality sample."""
        return int((self.counts > 0).sum())

    @property
    def high_quality(self) -> float:
        """The part of all samples that is near a mode."""
        return int(self.counts.sum()) / self.total if self.total else math.nan


def mode_counts(samples: Tensor, modes: Tensor, deviation: float, *, within: float = 4.0) -> ModeCounts:
    """Count samples at their nearest modes, if they are at most `within` deviations away.

    As in Azadi et al., "Discriminator Rejection Sampling" (2019), section 5.1, for 25 Gaussians.

    Args:
        samples: (N, D).
        modes: (K, D), K >= 1.
        deviation: standard deviation of a mode.
        within: in deviations.

    Raises:
        ValueError: shapes that do not fit.

    >>> modes = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> found = mode_counts(torch.tensor([[0.1, 0.0], [1.0, 0.0]]), modes, deviation=0.05)
    >>> found.counts.tolist(), found.covered, found.high_quality
    ([1, 0], 1, 0.5)
    """
    if samples.ndim != 2 or modes.ndim != 2 or samples.shape[1] != modes.shape[1] or not len(modes):
        shapes = tuple(samples.shape), tuple(modes.shape)
        raise ValueError(f"samples and modes must be (N, D) and (K, D), got {shapes}")
    if not deviation > 0:
        raise ValueError(f"deviation must be greater than 0, got {deviation}")
    distance, nearest = torch.cdist(
        samples.double(), modes.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).min(1)
    near = distance <= within * deviation
    counts = torch.bincount(nearest[near], minlength=len(modes))
    axes = samples.shape[1]
    spread = (distance[near].square().mean() / axes).sqrt().item() if near.any() else math.nan
    return ModeCounts(counts, len(samples), spread)
