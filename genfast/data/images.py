"""What a data set is here: three splits of images as integer grey or colour levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class DataError(ValueError):
    """A data set is unknown, missing, corrupt or of the wrong form; the message names the file."""


@dataclass(frozen=True)
class Split:
    """Images of one split, uint8 levels (N,C,H,W), and their int64 labels (N,) where known."""

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True)
class ImageData:
    """A data set: `train`, `validation` and `test` hold levels in [0, levels).

    `num_classes` is 0 where there are no labels.

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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


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
    # A table of all source values: no int64 copy of the data set is ever made.
    table = (torch.arange(source_levels) * levels // source_levels).to(torch.uint8)
    return values if levels == source_levels else table[values.int()]


def hold_out(split: Split, fraction: int) -> tuple[Split, Split]:
    """Part `split` at random, the same way every time: (the rest, one in `fraction`).

    Raises `DataError` if there are too few images for both parts to have one.
    """
    count = len(split)
    held = count // fraction
    if held == 0:
        raise DataError(f"{count} images are too few: at least {fraction} are needed")
    # RandomState is numpy's frozen generator: the split stays the same in every numpy to come.
    order = torch.from_numpy(np.random.RandomState(0).permutation(count))
    return take(split, order[: count - held]), take(split, order[count - held :])


def take(split: Split, index: Tensor | slice) -> Split:
    """The images and labels of `split` at `index`."""
    return Split(split.images[index], None if split.labels is None else split.labels[index])


def three_way(split: Split) -> tuple[Split, Split, Split]:
    """Train, validation and test parts of about 4/6, 1/6 and 1/6, the same way every time."""
    rest, test = hold_out(split, 6)
    train, validation = hold_out(rest, 5)
    return train, validation, test
