"""`load`: a data set by its name or by the path of a user's own images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from genfast.data.digits import load_digits
from genfast.data.files import load_folder, load_npz
from genfast.data.images import DataError, ImageData
from genfast.data.mnist import load_mnist

#: Every data set known by name: `loader(data_dir, levels) -> ImageData`.
DATASETS: dict[str, Callable[[Path | None, int | None], ImageData]] = {
    "digits": load_digits,
    "mnist": load_mnist,
}


def load(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    levels: int | None = None,
) -> ImageData:
    """Load a data set: a name in `DATASETS`, an .npz file or a folder of pictures.

    `data_dir` (or else the environment variable GENFAST_DATA) is where named data sets have their
    files. `levels` requantises uniformly to that many levels a colour; None keeps the data's own
    (17 for digits, else 256). Raises `DataError`.

    >>> load("digits").train.images.shape
    torch.Size([1199, 1, 8, 8])
    """
    data_dir = data_dir or os.environ.get("GENFAST_DATA") or None
    loader = DATASETS.get(str(name_or_path))
    if loader is not None:
        return loader(Path(data_dir) if data_dir else None, levels)
    path = Path(name_or_path)
    if path.is_dir():
        return load_folder(path, levels)
    if path.is_file():
        return load_npz(path, levels)
    raise DataError(
        f"unknown data set {str(name_or_path)!r}: give one of {', '.join(sorted(DATASETS))}, "
        "or the path of an .npz file or of a folder of pictures that exists"
    )
