"""A user's own images as an .npz file of arrays, 8 bits a colour."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.assemble import Part, Stored, array_part, warn_of_shared
from genfast.data.errors import DataError, memory_limit, refuse_beyond
from genfast.data.options import ImageOptions

_Arrays = Mapping[str, np.ndarray[Any, Any]]

#: What the names of each part's arrays begin with.
_PREFIXES = {"whole": "", "train": "train_", "validation": "val_", "test": "test_"}


def load_npz(path: Path, options: ImageOptions) -> Stored:
    """Images from an .npz file: uint8 (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3.

    Arrays `train_images` and `test_images` or `val_images` or both (with `train_labels` and so on),
    or `images` (with `labels`), which is then split. Pickled objects are never loaded.
    """
    prefixes = _PREFIXES.values()
    wanted = [prefix + kind for prefix in prefixes for kind in ("images", "labels")]
    arrays = read_npz(path, wanted, memory_limit())
    parts = {
        part: _part(path, arrays, prefix, options)
        for part, prefix in _PREFIXES.items()
        if f"{prefix}images" in arrays
    }
    whole = parts.pop("whole", None)
    if len(parts) < 2 or "train" not in parts:
        if whole is None:
            raise DataError(
                f"{path}: needs an array `images`, or `train_images` and `test_images`; "
                f"found {', '.join(_names(path)) or 'none'}"
            )
        parts = {"train": whole}
    classes = [int(p.labels.max()) + 1 for p in parts.values() if p.labels is not None]
    stored = Stored(str(path), path, parts, num_classes=max(classes, default=0))
    warn_of_shared(stored)
    return stored


def read_npz(path: Path, wanted: Sequence[str], limit: int) -> dict[str, np.ndarray[Any, Any]]:
    """Those of the arrays `wanted` that are in an .npz file, of at most `limit` bytes in all."""
    names = _names(path)
    name = ""
    try:
        # Opened here: on a damaged file numpy would leave it open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            there = [name for name in wanted if name in names]
            # zipfile never unpacks more of an entry than its directory says.
            sizes = {info.filename: info.file_size for info in archive.zip.infolist()}
            total = sum(sizes.get(name, sizes.get(f"{name}.npy", 0)) for name in there)
            refuse_beyond(limit, path, total)
            arrays = {}
            for name in there:
                arrays[name] = archive[name]
    # Whatever numpy, zip and zlib raise on a damaged file; objects in it raise ValueError.
    except DataError:
        raise
    except (OSError, EOFError, ValueError, KeyError, MemoryError, SyntaxError) as error:
        raise DataError(f"{path}: array `{name}` cannot be read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: array `{name}` is damaged: {error}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: array `{name}` is damaged: not in numpy's format")
    return arrays


def _names(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or cut short (no zip directory at its end)")
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not an .npz file that can be read: {error}") from error


def _part(path: Path, arrays: _Arrays, prefix: str, options: ImageOptions) -> Part:
    where = f"{path}: array `{prefix}images`"
    images = arrays[f"{prefix}images"]
    if images.dtype != np.uint8:
        raise DataError(f"{where} must be uint8 with values 0 to 255, found {images.dtype}")
    pixels = _channels_first(where, images)
    labels = arrays.get(f"{prefix}labels")
    if labels is not None:
        labels = _class_numbers(f"{path}: array `{prefix}labels`", labels, len(images))
    return array_part(pixels, None if labels is None else torch.from_numpy(labels), options, where)


def _class_numbers(
    where: str, labels: np.ndarray[Any, Any], count: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{where} must be {count} whole numbers, found {labels.dtype} {labels.shape}")
    # Checked before the cast: int64 cannot hold every uint64.
    if not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
        found = f"{labels.min()} to {labels.max()}"
        raise DataError(f"{where} must be class numbers from 0 up, found {found}")
    return labels.astype(np.int64)


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
