"""Learning-rate schedules, each a closed form of the step number alone.

So a resumed run needs no state of them: `torch.optim.lr_scheduler.LambdaLR` is told the step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from genfast.training.config import TrainConfig


def factor(config: TrainConfig, step: int, total_steps: int) -> float:
    """What the learning rate is multiplied by in step `step` (from 0) of `total_steps`.

    After the warm-up, with t the part of the remaining steps that is done: 1 - t (linear), 2 - 2t from
    the middle on (late-linear; Pix2Pix, CycleGAN),
    (1 + cos(pi t)) / 2 (cosine; Loshchilov and Hutter 2017), lr_decay^step (exponential; PixelCNN++
    has 0.999995).

    >>> from genfast.training import TrainConfig
    >>> [factor(TrainConfig(schedule="linear", warmup_steps=2), step, 6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    remaining = max(1, total_steps - config.warmup_steps)
    done = min(1.0, max(0, step - config.warmup_steps) / remaining)
    course = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "late-linear": min(1.0, 2.0 - 2.0 * done),
        "cosine": (1.0 + math.cos(math.pi * done)) / 2,
        "exponential": config.lr_decay**step,
    }
    return warmup * course[config.schedule]


def make_schedule(
    config: TrainConfig, optimiser: torch.optim.Optimizer, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of `config` for `optimiser`, at step 0."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor(config, step, total_steps))
