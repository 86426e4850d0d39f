"""Pictures of images: grids of level tensors as PNG files."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data.extras import require
from genfast.training.files import write_atomically

_GAP = 1  # pixels between images, before enlarging
_GAP_VALUE = 96  # mid-grey: tells the border of black images and of white ones
_CELL = 48  # images smaller than this are enlarged to about this many pixels


def to_bytes(images: Tensor, levels: int) -> Tensor:
    """Levels (N,C,H,W) in [0, levels) -> uint8 values with 0 black and levels-1 white.

    >>> to_bytes(torch.tensor([0, 1, 2]), levels=3).tolist()
    [0, 128, 255]
    """
    return (images.double() * (255 / (levels - 1)) + 0.5).floor().to(torch.uint8)


def to_unit(images: Tensor, levels: int) -> Tensor:
    """Levels in [0, levels) -> floats in [0, 1], which is what all but autoregressive models take.

    >>> to_unit(torch.tensor([0, 8, 16]), levels=17).tolist()
    [0.0, 0.5, 1.0]
    """
    return images.to(torch.float32) / (levels - 1)


def from_unit(images: Tensor, levels: int) -> Tensor:
    """Floats in [0, 1] -> the nearest levels, int64.

    >>> from_unit(torch.tensor([-0.1, 0.49, 1.0]), levels=17).tolist()
    [0, 8, 16]
    """
    return (images * (levels - 1)).round().clamp(0, levels - 1).to(torch.int64)


def as_levels(images: Tensor, levels: int) -> Tensor:
    """What a model's `sample` gave, as levels: these already, or floats in [0, 1]."""
    return from_unit(images, levels) if images.is_floating_point() else images


def to_picture(pixels: Tensor) -> Any:
    """uint8 (1,H,W) or (3,H,W) -> a `PIL.Image`.

    >>> to_picture(torch.zeros(3, 4, 6, dtype=torch.uint8)).size
    (6, 4)
    """
    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return require("PIL.Image").fromarray(array.contiguous().numpy())


def image_grid(images: Tensor, levels: int, columns: int | None = None) -> Any:
    """Images (N,C,H,W) of `levels` levels, row by row -> a `PIL.Image` of the grid.

    Small images are enlarged by a whole factor, each pixel a sharp square. `columns` defaults to
    about the square root of N.

    >>> image_grid(torch.zeros(4, 1, 28, 28, dtype=torch.int64), levels=2).size
    (118, 118)
    """
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N,1,H,W) or (N,3,H,W), got {tuple(images.shape)}")
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = torch.full(
        (rows * columns, channels, height + _GAP, width + _GAP), _GAP_VALUE, dtype=torch.uint8
    )
    cells[:count, :, _GAP:, _GAP:] = to_bytes(images, levels)
    canvas = cells.reshape(rows, columns, channels, height + _GAP, width + _GAP)
    canvas = canvas.permute(2, 0, 3, 1, 4).reshape(
        channels, rows * (height + _GAP), columns * (width + _GAP)
    )
    canvas = torch.nn.functional.pad(canvas, (0, _GAP, 0, _GAP), value=_GAP_VALUE)
    factor = max(1, round(_CELL / max(height, width)))
    canvas = canvas.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return to_picture(canvas)


def save_png(path: str | Path, picture: Any) -> None:
    """Save a `PIL.Image` as PNG, atomically."""
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    write_atomically(path, encoded.getvalue())
