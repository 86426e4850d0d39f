"""Where a rejection sampler is, what it gives, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class RejectionState:
    """Where a sampler is. Numbers count over all processes."""

    log_m: float = -math.inf
    gamma: float = 0.0
    proposals: int = 0  # seen so far, burn-in included; the number of the next
    burned_in: int = 0  # of them, only to estimate the maximum
    accepted: int = 0
    stale: int = 0  # accepted before the last rise of the maximum, with too high a probability

    @property
    def acceptance(self) -> float:
        """Of the proposals since the burn-in."""
        return self.accepted / max(1, self.proposals - self.burned_in)


@dataclass(frozen=True)
class Accepted:
    """A batch of accepted samples and their numbers among the proposals."""

    samples: Tensor  # (K, ...)
    numbers: Tensor  # (K,) int64, ascending


def check_percentile(percentile: float, gamma: float) -> None:
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must be between 0 and 100, got {percentile}")
    if 0 < percentile < 1:
        raise ValueError(
            f"percentile is in per cent: {percentile} would accept nearly everything; "
            f"for the {100 * percentile:g}th pass {100 * percentile:g}"
        )
    if gamma != 0:
        raise ValueError(f"gamma={gamma} and percentile={percentile} exclude each other")


def check_nan(logits: Tensor) -> None:
    count = int(logits.isnan().sum())
    if count:
        raise ValueError(f"the discriminator gave {count} logits of {len(logits)} that are NaN")


def maximum(logits: Tensor) -> float:
    return float(logits.max()) if len(logits) else -math.inf
