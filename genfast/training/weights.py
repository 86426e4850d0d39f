"""The exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """Weights averaged over the steps: after each, average = decay * average + (1 - decay) * weights.

    The first step sets it to the weights. Buffers are copied, not averaged. `model` is a second
    model of the same class that holds it.

    >>> import torch
    >>> weights = torch.nn.Linear(1, 1, bias=False)
    >>> average = Average(weights, decay=0.75)
    >>> for value in (0.0, 4.0):
    ...     _ = torch.nn.init.constant_(weights.weight, value)
    ...     average.update(weights)
    >>> average.model.weight.item()
    1.0
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

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
