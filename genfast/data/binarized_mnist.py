"""MNIST binarised once, in the files of Larochelle and Murray (2011): 50,000 + 10,000 + 10,000."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from genfast.data.assemble import Part, Stored, array_part
from genfast.data.errors import DataError, refuse_beyond
from genfast.data.options import ImageOptions
from genfast.data.reading import Layout, locate, open_packed, read_at_most

_SIDE = 28
_LARGEST_FILE = 2**28  # three times the training file
_PLACES = (".", "binarized-mnist", "binarized_mnist", "BinarizedMNIST", "MNIST", "mnist")
_NAMES = tuple(f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test"))
_LAYOUT = Layout(_NAMES, _PLACES, packed=True)


def load_binarized_mnist(data_dir: Path | None, options: ImageOptions) -> Stored:
    """The three files under `data_dir`, which are the three splits; there are no labels."""
    _, paths = locate("binarized-mnist", data_dir, (_LAYOUT,))
    names = ("train", "validation", "test")
    parts = {name: _read(path, options) for name, path in zip(names, paths, strict=True)}
    return Stored("binarized-mnist", paths[0].parent, parts, levels=2)


def _read(path: Path, options: ImageOptions) -> Part:
    """Lines of 784 characters 0 or 1 with blanks between them."""
    try:
        with open_packed(path) as file:
            content = bytes(read_at_most(file, _LARGEST_FILE + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, is it damaged? ({error})") from error
    refuse_beyond(_LARGEST_FILE, path, len(content))
    lines = content.split(b"\n")
    lines = lines if lines[-1].strip() else lines[:-1]
    for number, line in enumerate(lines, 1):
        # Every other character is a pixel; what a line of the right form has besides is blank.
        line = line.strip()
        if len(line) != 2 * _SIDE**2 - 1 or line[1::2].strip() or line[::2].strip(b"01"):
            wanted = f"{_SIDE**2} pixels 0 or 1 with blanks between"
            raise DataError(f"{path}: line {number} must be {wanted}")
    if not lines:
        raise DataError(f"{path}: holds no images")
    pixels = b"".join(line.strip()[::2] for line in lines)
    array = np.frombuffer(pixels, dtype=np.uint8) - ord("0")
    images = torch.from_numpy(array.reshape(-1, 1, _SIDE, _SIDE))
    return array_part(images, None, options, path, levels=2, digests=False)
