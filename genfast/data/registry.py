"""`load`: a data set by its name or by the path of a user's own images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from genfast.data.arrays import load_npz
from genfast.data.assemble import Stored, assemble
from genfast.data.binarized_mnist import load_binarized_mnist
from genfast.data.cifar10 import load_cifar10
from genfast.data.digits import load_digits
from genfast.data.errors import DataError
from genfast.data.folder import load_folder
from genfast.data.images import ImageData
from genfast.data.mnist import load_fashion_mnist, load_kmnist, load_mnist
from genfast.data.omniglot import load_omniglot
from genfast.data.options import ImageOptions

_Loader = Callable[[Path | None, ImageOptions], Stored]

_NAMED: dict[str, tuple[_Loader, str]] = {
    "digits": (load_digits, "1,797 digits of 8x8 in 17 grey levels, which come with scikit-learn"),
    "mnist": (load_mnist, "70,000 digits of 28x28, grey"),
    "fashion-mnist": (load_fashion_mnist, "70,000 pieces of clothing of 28x28, grey"),
    "kmnist": (load_kmnist, "70,000 handwritten Kuzushiji of 28x28, grey"),
    "binarized-mnist": (load_binarized_mnist, "MNIST binarised once (Larochelle), no labels"),
    "omniglot": (load_omniglot, "32,460 characters of 50 alphabets, 105x105 or 28x28, grey"),
    "cifar10": (load_cifar10, "60,000 colour images of 32x32 in ten classes"),
}

#: Every data set known by name, each with a line about it.
DATASETS: dict[str, str] = {name: about for name, (_, about) in _NAMED.items()}


def load(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    levels: int | None = None,
    *,
    image_size: int | None = None,
    crop: int | None = None,
    colour: str | None = None,
    binarise: str | None = None,
    flip: bool = False,
) -> ImageData:
    """Load a data set: a name in `DATASETS`, an .npz file or a folder of pictures.

    Args:
        name_or_path: what to load.
        data_dir: where named data sets have their files (or else the variable GENFAST_DATA).
        levels: requantises uniformly to that many levels a colour; None keeps the data's own (17
            for digits, 2 for binarized-mnist, else 256).
        image_size: resizes the short side to this and crops the centre square.
        crop: crops a centre square of this side first.
        colour: "grey" or "rgb"; None keeps what is stored.
        binarise: "threshold", "fixed" or "dynamic"; see `ImageData.batch` for the last.
        flip: mirrors training images at random; see `ImageData.batch`.

    Raises `DataError`: unknown, missing, damaged or too large, or an option that is wrong; the
    message names the file or the option.

    >>> load("digits").train.images.shape
    torch.Size([1199, 1, 8, 8])
    >>> load("digits", image_size=16, binarise="fixed").image_shape
    (1, 16, 16)
    """
    options = ImageOptions(
        levels=levels, image_size=image_size, crop=crop, colour=colour, binarise=binarise, flip=flip
    )
    return assemble(_stored(name_or_path, data_dir, options), options)


def _stored(name_or_path: str | Path, data_dir: str | Path | None, options: ImageOptions) -> Stored:
    data_dir = data_dir or os.environ.get("GENFAST_DATA") or None
    if str(name_or_path) in _NAMED:
        loader, _ = _NAMED[str(name_or_path)]
        return loader(Path(data_dir).expanduser() if data_dir else None, options)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return load_folder(path, options)
    if path.is_file():
        return load_npz(path, options)
    raise DataError(
        f"unknown data set {str(name_or_path)!r}: give one of {', '.join(DATASETS)}, "
        "or the path of an .npz file or of a folder of pictures that exists"
    )
