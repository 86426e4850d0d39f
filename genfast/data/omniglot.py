"""Omniglot: handwritten characters of 50 alphabets, as pictures of 105x105 or arrays of 28x28."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.assemble import Part, Stored, array_part
from genfast.data.errors import DataError
from genfast.data.matlab import read_mat
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
    arrays = read_mat(path)
    for name in (prefix + n for prefix in ("", "test") for n in ("data", "target", "targetchar")):
        if name not in arrays:
            found = ", ".join(sorted(arrays)) or "none"
            raise DataError(f"{path}: needs a matrix of numbers `{name}`, found {found}")
        if arrays[name].ndim != 2:
            raise DataError(f"{path}: `{name}` must have two dimensions, found {arrays[name].shape}")
    return arrays


def _mat_characters(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str
) -> list[tuple[int, int]]:
    """(alphabet, character in it) of each image."""
    target, character = arrays[f"{prefix}target"], arrays[f"{prefix}targetchar"]
    count = arrays[f"{prefix}data"].shape[1]
    if len(target) == 0 or target.shape[1] != count or character.size != count:
        raise DataError(
            f"{path}: {count} labels expected in `{prefix}target` and `{prefix}targetchar`, "
            f"found {target.shape} and {character.shape}"
        )
    if not (np.isfinite(character).all() and (character == np.rint(character)).all()):
        raise DataError(f"{path}: `{prefix}targetchar` must be whole numbers")
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
