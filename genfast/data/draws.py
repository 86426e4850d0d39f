"""Random draws that are a pure function of (seed, epoch, image number).

So a resumed run, another batch size or another number of processes sees the same images. The
generator is numpy's Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
2011), whose stream numpy promises never to change; key = (seed, purpose), counter = (block, image,
epoch, 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.errors import DataError

# Purposes. The draws made once are part of every published figure: they may never change.
_BINARISE_EACH_EPOCH, _FLIP, _BINARISE_ONCE = 1, 2, 3
_CHUNK = 4096  # images drawn at a time


def binarised(values: Tensor, source_levels: int, seed: int, epoch: int, numbers: Tensor) -> Tensor:
    """Each pixel 1 with probability value / (source_levels - 1), to 2^-16.

    Args:
        values: (N,C,H,W) uint8 in [0, source_levels).
        source_levels: how many levels `values` has.
        seed, epoch: whole numbers >= 0 that the draw depends on.
        numbers: (N,) int64, the number of each image, which the draw depends on.

    Returns:
        (N,C,H,W) uint8 of 0 and 1. Black stays 0 and white stays 1.

    >>> ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    >>> binarised(ends, 256, seed=0, epoch=0, numbers=torch.tensor([3])).flatten().tolist()
    [0, 1]
    """
    return _binarised(values, source_levels, _BINARISE_EACH_EPOCH, seed, epoch, numbers)


def binarised_once(values: Tensor, source_levels: int, part: int, numbers: Tensor) -> Tensor:
    """`binarised` by a draw that never changes; `part` keeps training and test images apart."""
    return _binarised(values, source_levels, _BINARISE_ONCE, 0, part, numbers)


def _binarised(
    values: Tensor, source_levels: int, purpose: int, seed: int, epoch: int, numbers: Tensor
) -> Tensor:
    # Of 2^16 equally likely draws, so many are below: from none for black to all for white.
    below = (torch.arange(source_levels) * 2.0**16 / (source_levels - 1)).round().to(torch.int32)
    bits = torch.empty_like(values, memory_format=torch.contiguous_format)
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        draws = _words16(purpose, seed, epoch, numbers[part], values[0].numel())
        bits[part] = draws.reshape(values[part].shape) < below[values[part].int()]
    return bits


def flipped(images: Tensor, seed: int, epoch: int, numbers: Tensor) -> Tensor:
    """Images (N,C,H,W), each mirrored left to right with probability 1/2."""
    heads = _words16(_FLIP, seed, epoch, numbers, 1) < 2**15
    return torch.where(heads.reshape(-1, 1, 1, 1), images.flip(-1), images)


def _words16(purpose: int, seed: int, epoch: int, numbers: Tensor, count: int) -> Tensor:
    """(len(numbers), count) int32 draws from [0, 2^16)."""
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 2**64:
            raise DataError(f"{name}: must be from 0 to 2**64 - 1, got {value}")
    generator = np.random.Philox(key=np.array([seed, purpose], dtype=np.uint64))
    # Setting the counter of one generator is five times as fast as making one for each image.
    state: Any = generator.state
    blocks = (count + 3) // 4
    words = np.empty((len(numbers), blocks), dtype="<u8")  # so the bytes are the same everywhere
    for row, number in zip(words, numbers.tolist(), strict=True):
        state["state"]["counter"][:] = (0, number, epoch, 0)
        generator.state = state
        row[:] = generator.random_raw(blocks)
    return torch.from_numpy(words.view("<u2")[:, :count].astype(np.int32))
