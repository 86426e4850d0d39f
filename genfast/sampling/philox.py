"""Counter-based uniforms: a draw depends only on (seed, image, pixel, draw).

So the same images come out however the work is split: over batches, processes, devices or sampling
methods. The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
2011); key = seed, counter = (image low, image high, pixel, draw // 4), word = draw % 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32.

    Args:
        counter: four int64 tensors of one shape with values in [0, 2^32).
        seed: 64 bits.

    Returns:
        Four int64 tensors with values in [0, 2^32).

    >>> import torch
    >>> from genfast.sampling import philox4x32
    >>> zero = torch.zeros((), dtype=torch.int64)
    >>> [hex(int(word)) for word in philox4x32((zero, zero, zero, zero), seed=0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & _WORD, seed >> 32 & _WORD
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _multiply(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low words of a 32 x 32 bit product, in int64 arithmetic that cannot overflow."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def uniforms(
    seed: int, images: Tensor, pixel: int | Tensor, draws: int, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The uniforms of a pixel of some images, in the open interval (0, 1).

    Args:
        seed: any integer; its low 64 bits count.
        images: (N,) int64, the numbers of the images, >= 0.
        pixel: row * width + column; or a tensor of such numbers that broadcasts with `images`.
        draws: how many draws the pixel takes.
        dtype: float32 (23 random bits, so that no value rounds to 0 or 1) or float64 (the same value).

    Returns:
        (N, draws) on the device of `images`; for a tensor of pixels, the broadcast shape and (draws,).

    >>> import torch
    >>> from genfast.sampling import uniforms
    >>> both = uniforms(7, torch.tensor([0, 1]), pixel=3, draws=2)
    >>> torch.equal(both[1:], uniforms(7, torch.tensor([1]), pixel=3, draws=2))
    True
    """
    if isinstance(pixel, int):
        pixel = torch.full_like(images, pixel)
    images, pixels = torch.broadcast_tensors(images, pixel)
    counter = (images & _WORD, images >> 32, pixels)
    words: list[Tensor] = []
    for block in range((draws + 3) // 4):
        words += philox4x32((*counter, torch.full_like(images, block)), seed)
    bits = torch.stack(words[:draws], -1) >> 9
    return (bits.to(dtype) + 0.5) * 2.0**-23
