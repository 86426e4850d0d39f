"""Noise that depends on (seed, number of the image) alone, for sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from genfast.sampling import uniforms

# "Pixels" of the counter that no pixel of an image has.
_CODE, _CHOICE = 2**31, 2**31 + 1


def code_noise(seed: int, numbers: Tensor, dims: int, dtype: torch.dtype) -> Tensor:
    """(N, dims) from N(0, 1), by the inverse distribution function."""
    noise: Tensor = torch.special.ndtri(uniforms(seed, numbers, _CODE, dims, dtype=torch.float64))
    return noise.to(dtype)


def choices(seed: int, numbers: Tensor, count: int) -> Tensor:
    """(N,) int64 uniform over [0, count)."""
    # A uniform has 23 random bits, so that the chances differ by up to count / 2^23 of themselves.
    chosen = uniforms(seed, numbers, _CHOICE, 1, dtype=torch.float64)[:, 0] * count
    return chosen.long().clamp(max=count - 1)


def pixel_uniforms(
    seed: int, numbers: Tensor, image_shape: tuple[int, int, int], dtype: torch.dtype
) -> Tensor:
    """(N, C, H, W) in (0, 1)."""
    colours, height, width = image_shape
    pixels = torch.arange(height * width, device=numbers.device)
    drawn = uniforms(seed, numbers[:, None], pixels[None], colours, dtype=torch.float64)
    images: Tensor = drawn.transpose(1, 2).unflatten(2, (height, width)).to(dtype)
    return images
