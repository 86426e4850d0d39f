"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel


class Average:
    """Weights averaged over the steps: after each, average = d * average + (1 - d) * weights.

    After step n + 1, d is `decay`, but at most (1 + n) / (10 + n): else the first weights, which are
    noise, would count for much during the first 1 / (1 - decay) steps. The first step sets the average
    to the weights. Buffers are copied, not averaged. `model` is a second model of the same class that
    holds it.

    >>> weights = torch.nn.Linear(1, 1, bias=False)
    >>> average = Average(weights, decay=0.75)
    >>> for value in (0.0, 11.0):
    ...     _ = torch.nn.init.constant_(weights.weight, value)
    ...     average.update(weights)
    >>> round(average.model.weight.item(), 5)  # d = 2 / 11
    9.0
    """

    def __init__(self, model: Any, decay: float) -> None:
        @torch.no_grad()
        def take_in(averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
            n = int(steps)
            share = 1 - min(decay, (1 + n) / (10 + n))
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share)

        self._averaged = AveragedModel(model, multi_avg_fn=take_in)

    @property
    def model(self) -> Any:
        """The model that holds the average."""
        return self._averaged.module

    def update(self, model: Any) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(model)

    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        """The average as it was after `steps` steps. Raises `RuntimeError` if it does not fit."""
        self.model.load_state_dict(tensors)
        self._averaged.n_averaged.fill_(steps)
