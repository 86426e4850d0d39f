"""The sample grid that a run draws at intervals."""

from __future__ import annotations

from typing import Any

import torch

from genfast.training.images import as_levels, image_grid


def sample_grid(model: Any, count: int, seed: int) -> Any:
    """`count` samples as a `PIL.Image`; of a conditional model the classes in turn, a column each.

    The same seed gives the same draws, so the grids of a run show one and the same images improving.
    """
    classes, device = model.num_classes, next(model.parameters()).device
    labels = torch.arange(count, device=device) % classes if classes else None
    images = as_levels(model.sample(count, seed=seed, labels=labels), model.levels)
    return image_grid(images.cpu(), model.levels, classes if 1 < classes <= 16 else None)
