"""Between the levels that data are stored in and the images that a model takes and gives.

Autoregressive models take and give levels, all others floats in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genfast.models.autoregressive import AutoregressiveModel
from genfast.training.images import as_levels, to_unit


def to_model(model: Any, images: Tensor) -> Tensor:
    """Levels (N,C,H,W) -> what `model` takes: int64 levels, or fp32 in [0, 1].

    >>> from genfast.models import MODELS
    >>> model = MODELS["vae"]((1, 1, 3), levels=3, latent_dim=2, hidden=4)
    >>> to_model(model, torch.tensor([[[[0, 1, 2]]]])).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    if isinstance(model, AutoregressiveModel):
        return images.to(torch.int64)
    return to_unit(images, model.levels)


def shown_levels(model: Any) -> int:
    """In how many levels the images of `model` are shown and stored.

    Those of the data, but of models that draw means, which lie between the levels.
    """
    levels: int = getattr(model, "SHOWN_LEVELS", model.levels)
    return levels


def to_shown(model: Any, images: Tensor) -> Tensor:
    """What `model` draws (N,C,H,W) -> levels in [0, `shown_levels`), uint8, on the CPU."""
    return as_levels(images.detach(), shown_levels(model)).to("cpu", torch.uint8)


def validation_score(model: Any) -> Callable[[Tensor, Tensor | None], Tensor]:
    """What a run validates on, (N,), the more the better: a likelihood, or what comes nearest."""
    score: Callable[[Tensor, Tensor | None], Tensor]
    score = getattr(model, "validation_score", None) or model.log_prob
    return score
