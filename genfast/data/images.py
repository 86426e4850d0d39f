"""What a data set is here: three splits of images as integer grey or colour levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genfast.data.draws import binarised, flipped
from genfast.data.errors import DataError
from genfast.data.splits import Split, take

#: The names of the three splits, as attributes of `ImageData`.
SPLITS = ("train", "validation", "test")

_CHUNK = 2**22


@dataclass(frozen=True)
class ImageData:
    """A data set: `train`, `validation` and `test` hold levels in [0, levels).

    `num_classes` is 0 where there are no labels. With dynamic binarisation `train` is one draw that
    never changes; `batch` gives those of each epoch, drawn from `intensities`: the training images
    as they were before, uint8 in [0, intensity_levels).

    >>> from genfast.data import load
    >>> digits = load("digits", levels=2)
    >>> digits.image_shape, digits.levels, digits.num_classes
    ((1, 8, 8), 2, 10)
    >>> len(digits.train), len(digits.validation), len(digits.test)
    (1199, 299, 299)
    """

    name: str
    levels: int
    train: Split
    validation: Split
    test: Split
    num_classes: int = 0
    flip: bool = False
    intensities: Tensor | None = None
    intensity_levels: int = 256

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def batch(
        self, split: str, index: Tensor, *, epoch: int = 0, seed: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Images of a split with what is random about them: dynamic binarisation and flips.

        Both happen to training images alone. The result is a pure function of (seed, epoch, number
        of the image): neither the batch nor its order nor the process matters.

        Args:
            split: "train", "validation" or "test".
            index: (N,) int64, the numbers of the images in that split, from 0.
            epoch: passes over the training images before this one.
            seed: whole number from 0.

        Returns:
            uint8 levels (N,C,H,W) and int64 labels (N,), or None where there are none.

        >>> from genfast.data import load
        >>> digits = load("digits", binarise="dynamic")
        >>> images, labels = digits.batch("train", torch.tensor([5, 2]), epoch=3)
        >>> torch.equal(images[1:], digits.batch("train", torch.tensor([2]), epoch=3)[0])
        True
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        chosen: Split = getattr(self, split)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(chosen):
            found = f"{int(index.min())} to {int(index.max())}"
            raise ValueError(f"index must be from 0 to {len(chosen) - 1} in {split}, got {found}")
        taken = take(chosen, index)
        images = taken.images
        if split == "train" and self.intensities is not None:
            values = self.intensities[index]
            images = binarised(values, self.intensity_levels, seed, epoch, index)
        if split == "train" and self.flip:
            images = flipped(images, seed, epoch, index)
        return images, taken.labels


def quantise(values: Tensor, source_levels: int, levels: int | None = None) -> Tensor:
    """Uniform quantisation of uint8 `values` in [0, source_levels) to [0, levels).

    level = floor(value * levels / source_levels): bins of equal width, so two levels split in the
    middle. `levels=None` keeps the values. Raises `DataError` if `levels` is not in
    [2, source_levels].

    >>> quantise(torch.tensor([0, 127, 128, 255], dtype=torch.uint8), 256, 2).tolist()
    [0, 0, 1, 1]
    """
    if levels is None:
        levels = source_levels
    if not 2 <= levels <= source_levels:
        raise DataError(f"levels must be between 2 and {source_levels}, got {levels}")
    if levels == source_levels:
        return values
    # A table of all source values, looked up in parts: no int32 copy of the data set is ever made.
    table = (torch.arange(source_levels) * levels // source_levels).to(torch.uint8)
    flat = values.reshape(-1)
    result = torch.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        result[part] = table[flat[part].int()]
    return result.reshape(values.shape)
