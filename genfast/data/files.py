"""A user's own images: an .npz file of arrays or a folder of pictures, 8 bits a colour."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.extras import require
from genfast.data.images import DataError, ImageData, Split, hold_out, quantise, three_way

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def load_npz(path: Path, levels: int | None = None) -> ImageData:
    """Images from an .npz file: uint8 (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3.

    Arrays `train_images` and `test_images` (with `train_labels` and `test_labels`), or `images`
    (with `labels`), which is then split. Pickled objects are never loaded.
    """
    arrays = _read_npz(path)
    if "train_images" in arrays and "test_images" in arrays:
        parts = [_npz_split(path, arrays, prefix, levels) for prefix in ("train_", "test_")]
        return _assemble(path, levels, *parts)
    if "images" in arrays:
        return _assemble(path, levels, _npz_split(path, arrays, "", levels))
    raise DataError(
        f"{path}: needs an array `images`, or `train_images` and `test_images`; "
        f"found {', '.join(sorted(arrays)) or 'none'}"
    )


def load_folder(path: Path, levels: int | None = None) -> ImageData:
    """Every picture in a folder and the folders in it, all of one size, split as they come sorted.

    Folders `train` and `test` in it are taken as the splits. Grey if all pictures are, else RGB.
    """
    named = [path / "train", path / "test"]
    folders = named if all(folder.is_dir() for folder in named) else [path]
    pictures = [_pictures(folder) for folder in folders]
    colour = any(_open_picture(file).mode not in ("1", "L") for part in pictures for file in part)
    size = _open_picture(pictures[0][0]).size
    mode = "RGB" if colour else "L"
    parts = [torch.stack([_pixels(file, mode, size) for file in part]) for part in pictures]
    return _assemble(path, levels, *(Split(quantise(part, 256, levels)) for part in parts))


def _assemble(path: Path, levels: int | None, train: Split, test: Split | None = None) -> ImageData:
    try:
        if test is None:
            train, validation, test = three_way(train)
        else:
            train, validation = hold_out(train, 6)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    shapes = [tuple(part.images.shape[1:]) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: training and test images differ in shape: {shapes}")
    labels = [part.labels for part in (train, validation, test)]
    if any((part is None) != (labels[0] is None) for part in labels):
        raise DataError(f"{path}: has labels for only one of the training and test images")
    num_classes = max((int(part.max()) + 1 for part in labels if part is not None), default=0)
    return ImageData(str(path), levels or 256, train, validation, test, num_classes)


# -- .npz ------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or cut short (no zip directory at its end)")
    name = ""
    try:
        # Opened here: on a damaged file numpy would leave it open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {}
            for name in archive.files:
                arrays[name] = archive[name]
            return arrays
    # Whatever numpy, zip and zlib raise on a damaged file; objects in it raise ValueError.
    except (OSError, EOFError, ValueError, KeyError, MemoryError) as error:
        raise DataError(f"{path}: array `{name}` cannot be read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: array `{name}` is damaged: {error}") from error


def _npz_split(
    path: Path, arrays: dict[str, np.ndarray[Any, Any]], prefix: str, levels: int | None
) -> Split:
    where = f"{path}: array `{prefix}images`"
    images = arrays[f"{prefix}images"]
    if images.dtype != np.uint8:
        raise DataError(f"{where} must be uint8 with values 0 to 255, found {images.dtype}")
    pixels = quantise(_channels_first(where, images), 256, levels)
    labels = arrays.get(f"{prefix}labels")
    if labels is None:
        return Split(pixels)
    where = f"{path}: array `{prefix}labels`"
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where} must be {len(images)} whole numbers, found {labels.dtype} {labels.shape}"
        )
    # Checked before the cast: int64 cannot hold every uint64.
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
        found = f"{labels.min()} to {labels.max()}"
        raise DataError(f"{where} must be class numbers from 0 up, found {found}")
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def _channels_first(where: str, images: np.ndarray[Any, Any]) -> Tensor:
    form = "(N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3"
    if images.size == 0:
        raise DataError(f"{where} is empty: its shape is {images.shape}")
    tensor = torch.from_numpy(images)
    if images.ndim == 3:
        return tensor.unsqueeze(1)
    if images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        if first and last:
            raise DataError(f"{where} may be read as NCHW and as NHWC: its shape is {images.shape}")
        if first or last:
            return tensor if first else tensor.permute(0, 3, 1, 2).contiguous()
    raise DataError(f"{where} must be {form}, found {images.shape}")


# -- folder ----------------------------------------------------------------------------------------


def _pictures(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(f"{folder}: no pictures found ({', '.join(sorted(_SUFFIXES))})")
    return files


def _open_picture(file: Path) -> Any:
    image = require("PIL.Image")
    try:
        with image.open(file) as picture:
            return picture
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a picture that can be read ({error})") from error


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> Tensor:
    """One picture -> uint8 (C,H,W)."""
    image = require("PIL.Image")
    try:
        with image.open(file) as picture:
            if picture.size != size:
                raise DataError(f"{file}: is {picture.size} pixels, the pictures before it {size}")
            if picture.mode.startswith(("I", "F")):
                raise DataError(f"{file}: has more than 8 bits a colour (mode {picture.mode})")
            array = np.asarray(picture.convert(mode))
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file}: picture is damaged ({error})") from error
    tensor = torch.from_numpy(array.copy())
    return tensor.unsqueeze(0) if mode == "L" else tensor.permute(2, 0, 1).contiguous()
