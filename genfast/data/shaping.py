"""Crop and resize one picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from genfast.data.errors import DataError
from genfast.data.extras import require
from genfast.data.options import ImageOptions


def fitted(picture: Any, options: ImageOptions, where: object) -> Any:
    """A `PIL.Image` of mode L or RGB cropped and resized as `options` say.

    Resizing is Pillow's bicubic, whose filter widens when it shrinks: antialiased. `where` names
    the picture in the error of one that is smaller than the crop.
    """
    if options.crop is not None:
        if min(picture.size) < options.crop:
            raise DataError(f"{where}: is {picture.size} pixels, too small for crop={options.crop}")
        left, top = ((side - options.crop) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + options.crop, top + options.crop))
    if options.image_size is not None:
        short = min(picture.size)
        left, top = ((side - short) / 2 for side in picture.size)
        # Only the centre is computed; the filter sees beyond it, as if all had been resized.
        square = (left, top, left + short, top + short)
        size = (options.image_size, options.image_size)
        picture = picture.resize(size, require("PIL.Image").Resampling.BICUBIC, box=square)
    return picture


def fitted_size(size: tuple[int, int], options: ImageOptions) -> tuple[int, int]:
    """(width, height) of a picture of `size` after `fitted`."""
    side = options.image_size or options.crop
    return size if side is None else (side, side)


def channels_first(picture: Any) -> np.ndarray[Any, Any]:
    """A `PIL.Image` of mode L or RGB -> uint8 (C,H,W)."""
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
