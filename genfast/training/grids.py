"""The picture that a run draws at intervals: samples, or reconstructions by a model that draws none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genfast.data import Split
from genfast.models.adversarial import TranslationModel
from genfast.training.evaluate import spread
from genfast.training.images import from_unit, image_grid, to_unit
from genfast.training.model_images import shown_levels, to_model, to_shown


def sample_grid(model: Any, count: int, seed: int, held_out: Split) -> Any:
    """`count` samples as a `PIL.Image`; of a conditional model the classes in turn, a column each.

    Of a translation model, `count` images of `held_out`, each with its translation and its partner. The
    same seed gives the same draws, so the grids of a run show one and the same images improving.
    """
    if isinstance(model, TranslationModel):
        return _translations(model, held_out.images[:count])
    classes, device = model.num_classes, next(model.parameters()).device
    given = {"labels": torch.arange(count, device=device) % classes} if classes else {}
    images = to_shown(model, model.sample(count, seed=seed, **given))
    return image_grid(images, shown_levels(model), classes if 1 < classes <= 16 else None)


@torch.no_grad()
def reconstruction_grid(model: Any, split: Split, count: int) -> Any:
    """`count` images spread over `split`, each above its reconstruction, as a `PIL.Image`."""
    device = next(model.parameters()).device
    images = to_model(model, spread(split, count).images.to(device))
    columns = min(len(images), 8)
    # Rows of originals and of reconstructions in turn; the last may be short, and is filled with black.
    missing = -len(images) % columns
    rows = [
        torch.cat([part, part.new_zeros(missing, *part.shape[1:])]).unflatten(0, (-1, columns))
        for part in (images, model.reconstruct(images))
    ]
    shown = to_shown(model, torch.stack(rows, 1).flatten(0, 2))
    return image_grid(shown, shown_levels(model), columns)


def _translations(model: TranslationModel, images: Tensor) -> Any:
    """Rows of three pairs or so: input, translation, partner."""
    device = next(model.parameters()).device
    a, b = images[:, : model.input_channels], images[:, model.input_channels :]
    made = model.sample(len(a), given=to_unit(a, model.levels).to(device)).cpu()
    shown = [a, from_unit(made, model.levels), b]
    channels = max(image.shape[1] for image in shown)
    same = [image.to(torch.int64).expand(-1, channels, -1, -1) for image in shown]
    columns = 3 * max(1, round((len(a) / 3) ** 0.5))
    return image_grid(torch.stack(same, 1).flatten(0, 1), model.levels, columns)
