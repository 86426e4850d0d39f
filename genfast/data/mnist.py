"""MNIST from its four IDX files: 60,000 + 10,000 images of 28x28 in 256 grey levels."""

from __future__ import annotations

from pathlib import Path

import torch

from genfast.data.idx import read_idx
from genfast.data.images import DataError, ImageData, Split, quantise, take

_PARTS = {"train": "train", "test": "t10k"}
_FOLDERS = (".", "MNIST/raw", "mnist")


def load_mnist(data_dir: Path | None, levels: int | None = None) -> ImageData:
    """MNIST under `data_dir`; validation is the last 10,000 (one in six) of the training images."""
    folder = _find(data_dir)
    train, test = (_read(folder, part, levels) for part in ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = [tuple(split.images.shape[2:]) for split in (train, test)]
        raise DataError(f"{folder}: training and test images differ in size: {sizes}")
    kept = len(train) - len(train) // 6
    return ImageData(
        "mnist",
        levels or 256,
        train=take(train, slice(0, kept)),
        validation=take(train, slice(kept, None)),
        test=test,
        num_classes=10,
    )


def _names(part: str) -> tuple[str, str]:
    return f"{_PARTS[part]}-images-idx3-ubyte", f"{_PARTS[part]}-labels-idx1-ubyte"


def _find(data_dir: Path | None) -> Path:
    """The folder that holds the files; the error says which are missing and where they may be."""
    names = [name for part in _PARTS for name in _names(part)]
    wanted = f"mnist needs the files {', '.join(names)} (each as it is or with .gz)"
    if data_dir is None:
        raise DataError(f"{wanted} in a folder given by --data-dir or GENFAST_DATA")
    for folder in (data_dir / sub for sub in _FOLDERS):
        missing = [name for name in names if not _path(folder, name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(names):
            raise DataError(f"{folder}: {', '.join(missing)} not found; {wanted}")
    places = ", ".join(str(data_dir / sub) for sub in _FOLDERS)
    raise DataError(f"{wanted} in one of {places}; none is there")


def _path(folder: Path, name: str) -> Path:
    """The file as it is, or else its name with .gz, whether or not that is there."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read(folder: Path, part: str, levels: int | None) -> Split:
    images_path, labels_path = (_path(folder, name) for name in _names(part))
    images, labels = read_idx(images_path, dims=3), read_idx(labels_path, dims=1)
    if len(images) == 0 or 0 in images.shape:
        raise DataError(f"{images_path}: holds no images, its shape is {tuple(images.shape)}")
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(images)} labels expected, found {len(labels)}")
    if int(labels.max()) > 9:
        raise DataError(f"{labels_path}: labels from 0 to 9 expected, found {int(labels.max())}")
    return Split(quantise(images.unsqueeze(1), 256, levels), labels.to(torch.int64))
