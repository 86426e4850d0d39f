"""MNIST, Fashion-MNIST and KMNIST: each 60,000 + 10,000 images of 28x28 in 256 grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genfast.data.arrays import read_npz
from genfast.data.assemble import Part, Stored, array_part
from genfast.data.errors import LARGEST_NAMED_SET, DataError
from genfast.data.idx import read_idx
from genfast.data.options import ImageOptions
from genfast.data.reading import Layout, locate

_IDX_NAMES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
_NPZ_NAMES = tuple(
    f"kmnist-{part}-{kind}.npz" for part in ("train", "test") for kind in ("imgs", "labels")
)

# The three sets have the same file names: only MNIST is looked for in the data folder itself.
_FOLDERS = {
    "mnist": (".", "MNIST/raw", "MNIST", "mnist"),
    "fashion-mnist": ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion-mnist/data/fashion"),
    "kmnist": ("KMNIST/raw", "KMNIST", "kmnist"),
}


def load_mnist(data_dir: Path | None, options: ImageOptions) -> Stored:
    """MNIST from its IDX files under `data_dir`."""
    return _load("mnist", data_dir, options)


def load_fashion_mnist(data_dir: Path | None, options: ImageOptions) -> Stored:
    """Fashion-MNIST from its IDX files under `data_dir`."""
    return _load("fashion-mnist", data_dir, options)


def load_kmnist(data_dir: Path | None, options: ImageOptions) -> Stored:
    """KMNIST from its IDX or npz files under `data_dir`."""
    return _load("kmnist", data_dir, options, Layout(_NPZ_NAMES, (".", *_FOLDERS["kmnist"])))


def _load(name: str, data_dir: Path | None, options: ImageOptions, *more: Layout) -> Stored:
    _, paths = locate(name, data_dir, (Layout(_IDX_NAMES, _FOLDERS[name], packed=True), *more))
    train, test = (_part(paths[first], paths[first + 1], options) for first in (0, 2))
    parts = {"train": train, "test": test}
    return Stored(name, paths[0].parent, parts, num_classes=10, in_order=True)


def _part(images_path: Path, labels_path: Path, options: ImageOptions) -> Part:
    images, labels = _array(images_path, dims=3), _array(labels_path, dims=1)
    if len(images) == 0 or 0 in images.shape:
        raise DataError(f"{images_path}: holds no images, its shape is {tuple(images.shape)}")
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(images)} labels expected, found {len(labels)}")
    if int(labels.max()) > 9:
        raise DataError(f"{labels_path}: labels from 0 to 9 expected, found {int(labels.max())}")
    pixels, numbers = images.unsqueeze(1), labels.to(torch.int64)
    return array_part(pixels, numbers, options, images_path, digests=False)


def _array(path: Path, dims: int) -> Tensor:
    if path.suffix != ".npz":
        return read_idx(path, dims)
    array = read_npz(path, ("arr_0",), LARGEST_NAMED_SET).get("arr_0")
    if array is None:
        raise DataError(f"{path}: has no array `arr_0`")
    if array.dtype != np.uint8 or array.ndim != dims:
        raise DataError(
            f"{path}: array `arr_0` must be uint8 in {dims} dimensions, "
            f"found {array.dtype} {array.shape}"
        )
    return torch.from_numpy(array)
