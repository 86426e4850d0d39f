"""Scoring images by importance sampling, and how exact the estimates are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genfast.training.distributed import Processes
from genfast.training.estimates import Moments


class ImportanceScore:
    """`model.importance_estimate` as a score for `evaluate`; it keeps the estimates' standard errors.

    Raises `ValueError` if the model's likelihood needs no sampling, or `samples` is below 1.
    """

    def __init__(self, model: Any, samples: int) -> None:
        if not hasattr(model, "importance_estimate"):
            raise ValueError(f"importance_samples: {type(model).__name__} needs none, got {samples}")
        if samples < 1:
            raise ValueError(f"importance_samples: must be 1 or more, got {samples}")
        self.model, self.samples = model, samples
        self._squares: list[Moments] = []

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x), estimated: (N,), nats."""
        estimate = self.model.importance_estimate(images, self.samples)
        self._squares.append(Moments.of(estimate.standard_error.square()))
        log_prob: Tensor = estimate.log_prob
        return log_prob

    def standard_error(self, processes: Processes) -> float:
        """The root mean square over all images scored of the standard error of one image's estimate.

        On rank 0; the others take part.
        """
        everyone = processes.gather(self._squares)
        if everyone is None:
            return float("nan")
        return float(Moments.merged(part for parts in everyone for part in parts).mean ** 0.5)
