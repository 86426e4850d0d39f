"""Omniglot: handwritten characters of 50 alphabets, as pictures of 105x105 or arrays of 28x28."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.assemble import Part, Stored, array_part
from genfast.data.errors import LARGEST_NAMED_SET, DataError, refuse_beyond
from genfast.data.extras import require
from genfast.data.options import ImageOptions
from genfast.data.pictures import find_pictures, read_pictures, survey
from genfast.data.reading import Layout, locate

_FOLDERS = ("images_background", "images_evaluation")
_PLACES = (".", "omniglot-py", "omniglot", "Omniglot", "omniglot/python", "OMNIGLOT")
_LAYOUTS = (Layout(_FOLDERS, _PLACES), Layout(("chardata.mat",), _PLACES))

_MAT_SIDE = 28
_MAT_IMAGES, _MAT_VALIDATION = 24345, 1345  # as in the literature: 23,000 are left for training


def load_omniglot(data_dir: Path | None, options: ImageOptions) -> Stored:
    """Omniglot under `data_dir`, white strokes on black; labels are characters of an alphabet.

    Pictures: `images_background` is the training part (one in ten for validation) and
    `images_evaluation`, with other alphabets, the test part. `chardata.mat`: as it is divided.
    """
    layout, paths = locate("omniglot", data_dir, _LAYOUTS)
    return _from_folders(paths, options) if layout is _LAYOUTS[0] else _from_mat(paths[0], options)


def _from_folders(folders: Sequence[Path], options: ImageOptions) -> Stored:
    files = [find_pictures(folder) for folder in folders]
    names = [
        [_character(folder, file) for file in part] for folder, part in zip(folders, files, strict=True)
    ]
    known: dict[tuple[int, str], int] = {}
    for number, characters in enumerate(names):
        for name in sorted(set(characters)):
            known[number, name] = len(known)
    form = survey([file for part in files for file in part], options)
    parts = {}
    for number, part in enumerate(("train", "test")):
        labels = torch.tensor([known[number, name] for name in names[number]])
        parts[part] = read_pictures(files[number], form, options, labels, invert=True)
    held = len(files[0]) // 10
    return Stored("omniglot", folders[0].parent, parts, num_classes=len(known), held=held)


def _character(folder: Path, file: Path) -> str:
    inner = file.relative_to(folder).parts
    if len(inner) != 3:
        raise DataError(f"{file}: expected as {folder}/ALPHABET/CHARACTER/{file.name}")
    return f"{inner[0]}/{inner[1]}"


# -- chardata.mat ----------------------------------------------------------------------------------


def _from_mat(path: Path, options: ImageOptions) -> Stored:
    arrays = _read_mat(path)
    characters = {prefix: _mat_characters(path, arrays, prefix) for prefix in ("", "test")}
    numbers = {pair: n for n, pair in enumerate(sorted({*characters[""], *characters["test"]}))}
    parts = {}
    for prefix, pairs in characters.items():
        labels = torch.tensor([numbers[pair] for pair in pairs])
        parts[prefix or "train"] = _mat_part(path, arrays, prefix, labels, options)
    held = len(characters[""]) * _MAT_VALIDATION // _MAT_IMAGES
    return Stored("omniglot", path, parts, num_classes=len(numbers), held=held)


def _read_mat(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    scipy_io = require("scipy.io")
    wanted = [prefix + name for prefix in ("", "test") for name in ("data", "target", "targetchar")]
    try:
        refuse_beyond(LARGEST_NAMED_SET, path, path.stat().st_size)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # scipy only warns of some kinds of damage
            headers = scipy_io.whosmat(path)
            shapes = {name: shape for name, shape, _ in headers if name in wanted}
            for name, shape in shapes.items():
                refuse_beyond(LARGEST_NAMED_SET, f"{path}: array `{name}`", 8 * math.prod(shape))
            arrays = scipy_io.loadmat(path, variable_names=wanted)
    except DataError:
        raise
    except Exception as error:  # scipy raises nearly every kind there is on damaged files
        raise DataError(f"{path}: not a MATLAB file that can be read ({error})") from error
    for name in wanted:
        if name not in arrays:
            raise DataError(f"{path}: needs an array `{name}`, found {', '.join(sorted(shapes))}")
        if arrays[name].ndim != 2 or arrays[name].dtype.kind not in "uif":
            raise DataError(f"{path}: array `{name}` must be a matrix of numbers")
    return dict(arrays)


def _mat_characters(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str
) -> list[tuple[int, int]]:
    """(alphabet, character in it) of each image."""
    target, character = arrays[f"{prefix}target"], arrays[f"{prefix}targetchar"]
    count = arrays[f"{prefix}data"].shape[1]
    if target.shape[1] != count or character.size != count:
        raise DataError(
            f"{path}: {count} labels expected in `{prefix}target` and `{prefix}targetchar`, "
            f"found {target.shape} and {character.shape}"
        )
    return list(zip(target.argmax(0).tolist(), character.ravel().astype(int).tolist(), strict=True))


def _mat_part(
    path: Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    prefix: str,
    labels: Tensor,
    options: ImageOptions,
) -> Part:
    where = f"{path}: array `{prefix}data`"
    data = arrays[f"{prefix}data"]
    if data.shape[0] != _MAT_SIDE**2 or data.shape[1] == 0:
        raise DataError(f"{where} must be ({_MAT_SIDE**2}, N), found {data.shape}")
    if not (data.min() >= 0 and data.max() <= 1):
        raise DataError(f"{where} must be from 0 to 1, found {data.min()} to {data.max()}")
    # MATLAB stores columns first: each row of `data.T` is an image column by column.
    columns = np.rint(data.T * 255).astype(np.uint8).reshape(-1, _MAT_SIDE, _MAT_SIDE)
    images: Tensor = torch.from_numpy(np.ascontiguousarray(columns.transpose(0, 2, 1)))
    return array_part(images.unsqueeze(1), labels, options, where)
