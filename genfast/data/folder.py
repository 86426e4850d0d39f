"""A user's own images as a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from genfast.data.assemble import Stored, warn_of_shared
from genfast.data.errors import DataError
from genfast.data.options import ImageOptions
from genfast.data.pictures import find_pictures, read_pictures, survey

#: Names of the folders of each part, by its name in `Stored`.
PART_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}


def load_folder(path: Path, options: ImageOptions) -> Stored:
    """Every picture in a folder and the folders in it. Grey if all pictures are, else RGB.

    Folders `train` and `val` and/or `test` in it are taken as the parts. Where all pictures of the
    part lie in two or more folders, these are their classes, numbered in alphabetical order.
    """
    if all((path / f"train{domain}").is_dir() for domain in "AB"):
        raise DataError(f"{path}: has two domains, A and B: use load_paired or load_unpaired")
    roots = part_folders(path)
    files = {part: find_pictures(folder) for part, folder in roots.items()}
    classes = _classes(roots["train"], files["train"])
    form = survey([file for part in files.values() for file in part], options)
    parts = {
        part: read_pictures(files[part], form, options, _labels(folder, files[part], classes))
        for part, folder in roots.items()
    }
    stored = Stored(str(path), path, parts, num_classes=len(classes))
    warn_of_shared(stored)
    return stored


def part_folders(path: Path) -> dict[str, Path]:
    """The folder of each part: {"train": path} where it has none of its own."""
    found = {
        part: path / name
        for part, names in PART_FOLDERS.items()
        for name in reversed(names)
        if (path / name).is_dir()
    }
    if not found:
        return {"train": path}
    if "train" not in found:
        others = ", ".join(folder.name for folder in found.values())
        raise DataError(f"{path}: has a folder {others}, but none called train")
    return found


def _classes(root: Path, files: Sequence[Path]) -> list[str]:
    inner = [file.relative_to(root).parts for file in files]
    names = sorted({parts[0] for parts in inner if len(parts) > 1})
    return names if len(names) > 1 and all(len(parts) > 1 for parts in inner) else []


def _labels(root: Path, files: Sequence[Path], classes: Sequence[str]) -> Tensor | None:
    if not classes:
        return None
    numbers = {name: number for number, name in enumerate(classes)}
    labels = []
    for file in files:
        name = file.relative_to(root).parts[0]
        if name not in numbers:
            raise DataError(f"{file}: no class {name!r} among those of the training pictures")
        labels.append(numbers[name])
    return torch.tensor(labels)
