"""How long a run goes on, told from its settings and its history alone."""

from __future__ import annotations

from genfast.training.config import TrainConfig
from genfast.training.history import History


def planned_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """The optimiser steps of a run that nothing ends early.

    >>> planned_steps(TrainConfig(epochs=3, max_steps=25), steps_per_epoch=10)
    25
    """
    planned = config.epochs * steps_per_epoch
    return planned if config.max_steps is None else min(planned, config.max_steps)


def is_done(config: TrainConfig, history: History, steps_per_epoch: int) -> bool:
    """Whether all steps are taken, or the validation loss has not fallen for too many epochs.

    >>> history = History([1.0] * 20, [0.1] * 20, {10: 1.5, 20: 1.6})
    >>> [is_done(TrainConfig(epochs=3, early_stopping=patience), history, 10) for patience in (0, 1, 2)]
    [False, True, False]
    """
    step = len(history.losses)
    if step >= planned_steps(config, steps_per_epoch):
        return True
    best = history.best_epoch(steps_per_epoch)
    patience, epoch = config.early_stopping, step // steps_per_epoch
    # While the weight of the KL term rises the loss may well do so too.
    return patience > 0 and best is not None and epoch - max(best, config.kl_warmup) >= patience
