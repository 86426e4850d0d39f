"""Pictures of a latent space: reconstructions, a map of codes, neighbours, interpolations."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data import ImageData
from genfast.data.extras import require
from genfast.models.latent.neighbour_index import NeighbourIndex
from genfast.training.evaluate import spread
from genfast.training.files import write_atomically
from genfast.training.grids import reconstruction_grid
from genfast.training.images import image_grid, save_png
from genfast.training.model_images import shown_levels, to_model, to_shown

_SHOWN = 8  # images in a row


def draw_pictures(folder: Path, model: Any, data: ImageData, known: Tensor, asked: Tensor) -> list[Path]:
    """Write the pictures -> their files.

    - `reconstructions.png`: 32 test images, each above its reconstruction;
    - `neighbours.png`: 8 test images, each followed by the 7 training images of the nearest codes;
    - `interpolations.png`: from one test image to another in 8 steps (variational autoencoders);
    - `latent-map.png`: the test images' codes on their two principal axes, coloured by class.

    Args:
        known, asked: (N, D) codes of the training and of the test images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "reconstructions": reconstruction_grid(model, data.test, 4 * _SHOWN),
        "neighbours": _neighbours(data, known, asked),
    }
    if hasattr(model, "interpolate"):
        pictures["interpolations"] = _interpolations(model, data)
    files = [folder / f"{name}.png" for name in pictures]
    for file, picture in zip(files, pictures.values(), strict=True):
        save_png(file, picture)
    files.append(folder / "latent-map.png")
    write_atomically(files[-1], _map(asked, data.test.labels))
    return files


def _neighbours(data: ImageData, known: Tensor, asked: Tensor) -> Any:
    index = NeighbourIndex("torch", known.device)
    index.build(known)
    chosen = torch.arange(_SHOWN) * len(asked) // _SHOWN
    rows = index.search(asked[chosen], _SHOWN - 1)[1]
    near = data.train.images[rows.clamp(min=0)]
    images = torch.cat([data.test.images[chosen][:, None], near], 1).flatten(0, 1)
    return image_grid(images, data.levels, _SHOWN)


def _interpolations(model: Any, data: ImageData) -> Any:
    device = next(model.parameters()).device
    images = to_model(model, spread(data.test, 2 * _SHOWN).images.to(device))
    steps = model.interpolate(images[::2], images[1::2], _SHOWN)
    shown = to_shown(model, steps.transpose(0, 1).flatten(0, 1))
    return image_grid(shown, shown_levels(model), _SHOWN)


def _map(codes: Tensor, labels: Tensor | None) -> bytes:
    """A PNG."""
    centred = (codes - codes.mean(0)).double()
    axes_of = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    x, y = (torch.nn.functional.pad(centred @ axes_of.T, (0, 2))[:, i].tolist() for i in range(2))
    figure = require("matplotlib.figure", "bench").Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    points = axes.scatter(x, y, s=3, c=None if labels is None else labels.tolist(), cmap="tab10")
    axes.set(xlabel="first principal axis", ylabel="second principal axis")
    if labels is not None:
        figure.colorbar(points, label="class")
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=140)
    return encoded.getvalue()
