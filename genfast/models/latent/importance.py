"""The importance-sampled log-likelihood, in a stream: memory does not grow with the samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """Estimates of log p(x), (N,), nats, and the standard errors that the finite samples leave."""

    log_prob: Tensor
    standard_error: Tensor


class StreamingLogMean:
    """log of the mean of weights given by their logs, in parts, and its standard error.

    Keeps, in fp64, the largest log-weight m, sum exp(w - m) and sum exp(2 (w - m)). The standard error
    of log(mean) is by the delta method sd(weights) / (sqrt(S) mean(weights)); log(mean) itself is low by
    about half its square (Jensen), so the estimate is, in expectation, a lower bound.

    >>> stream = StreamingLogMean(1)
    >>> for part in ([0.0, 700.0], [1400.0]):
    ...     stream.add(torch.tensor(part)[:, None])
    >>> round(stream.estimate().log_prob.item(), 6) == round(1400 - math.log(3), 6)
    True
    """

    def __init__(self, count: int, device: torch.device | None = None) -> None:
        self.samples = 0
        self._most = torch.full((count,), -math.inf, dtype=torch.float64, device=device)
        self._sum = torch.zeros_like(self._most)
        self._squares = torch.zeros_like(self._most)

    def add(self, log_weights: Tensor) -> None:
        """Take in log-weights (S, N)."""
        log_weights = log_weights.double()
        most = torch.maximum(self._most, log_weights.amax(0))
        # Where all weights are zero so far: any finite number, the sums stay zero.
        base = most.where(most > -math.inf, torch.zeros_like(most))
        scaled = (log_weights - base).exp()
        kept = (self._most - base).exp()
        self._sum = self._sum * kept + scaled.sum(0)
        self._squares = self._squares * kept.square() + scaled.square().sum(0)
        self._most = most
        self.samples += len(log_weights)

    def estimate(self) -> Estimate:
        """What all samples so far give; the error of a single one is NaN."""
        count = self.samples
        log_mean = self._most + self._sum.log() - math.log(count)
        if count < 2:
            return Estimate(log_mean, torch.full_like(log_mean, math.nan))
        mean = self._sum / count
        variance = (self._squares / count - mean.square()).clamp(min=0) / (count - 1)
        return Estimate(log_mean, variance.sqrt() / mean)
