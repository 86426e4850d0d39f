"""Splits that are the same every time and on every machine, and never share an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genfast.data.errors import DataError


@dataclass(frozen=True)
class Split:
    """Images of one split, uint8 levels (N,C,H,W), and their int64 labels (N,) where known."""

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return self.images.shape[0]


def take(split: Split, index: Tensor | slice) -> Split:
    """The images and labels of `split` at `index`."""
    return Split(split.images[index], None if split.labels is None else split.labels[index])


def hold_out(split: Split, fraction: int) -> tuple[Split, Split]:
    """Part `split` at random, the same way every time: (the rest, one in `fraction`).

    Images that are the same to the byte come to the same side. Raises `DataError` if there are too
    few different images for both parts to have one.

    >>> rest, held = hold_out(Split(torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1)), 6)
    >>> len(rest), len(held)
    (10, 2)
    """
    groups = group_numbers(content_digests(split.images))
    rest, held = hold_out_indices(groups, len(split) // fraction, fraction)
    return take(split, rest), take(split, held)


def three_way(split: Split) -> tuple[Split, Split, Split]:
    """Train, validation and test parts of about 4/6, 1/6 and 1/6, as `hold_out` parts them.

    >>> parts = three_way(Split(torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1)))
    >>> [len(part) for part in parts]
    [8, 2, 2]
    """
    rest, test = hold_out(split, 6)
    train, validation = hold_out(rest, 5)
    return train, validation, test


def content_digests(images: Tensor) -> list[bytes]:
    """A digest of each image's bytes; equal for equal images and, in practice, for no others."""
    rows = images.flatten(1).contiguous().numpy()
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def group_numbers(digests: Sequence[bytes]) -> list[int]:
    """For each image the number of the first with the same digest.

    >>> group_numbers([b"a", b"b", b"a"])
    [0, 1, 0]
    """
    first: dict[bytes, int] = {}
    return [first.setdefault(digest, number) for number, digest in enumerate(digests)]


def joined_groups(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Groups in which any two images that either grouping joins are together.

    >>> joined_groups([0, 0, 2, 3], [0, 1, 1, 3])
    [0, 0, 0, 3]
    """
    parent = list(range(len(one)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for groups in (one, other):
        for number, group in enumerate(groups):
            low, high = sorted((root(number), root(group)))
            parent[high] = low
    return [root(number) for number in range(len(parent))]


def hold_out_indices(groups: Sequence[int], held: int, fraction: int = 2) -> tuple[Tensor, Tensor]:
    """A fixed shuffle of all images, parted in (the rest, `held` of them); groups stay whole.

    Without images that are alike, the last `held` of the shuffle are held out. A group that would
    overfill what is held out stays in the rest, so that there may be fewer than `held`.
    """
    count = len(groups)
    if held == 0:
        raise DataError(f"{count} images are too few: at least {fraction} are needed")
    # RandomState is numpy's frozen generator: the split stays the same in every numpy to come.
    order = np.random.RandomState(0).permutation(count)
    _, group_of = np.unique(np.asarray(groups)[order], return_inverse=True)
    sizes = np.bincount(group_of)
    chosen = np.zeros(len(sizes), dtype=bool)  # by group
    seen = np.zeros(len(sizes), dtype=bool)
    left = held
    for group in group_of[::-1]:
        if not seen[group] and sizes[group] <= left:
            chosen[group] = True
            left -= sizes[group]
        seen[group] = True
        if left == 0:
            break
    is_held = chosen[group_of]
    if left == held or is_held.all():
        raise DataError(f"too few of the {count} images differ from all others to be split")
    return torch.from_numpy(order[~is_held]), torch.from_numpy(order[is_held])
