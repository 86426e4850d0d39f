"""The live taps of a masked convolution, for the dense convolutions that it is raced against."""

from __future__ import annotations

import torch
from torch import Tensor


def tap_mask(
    shape: tuple[int, int, int, int], mask_type: str, *, colors: int = 1, out_splits: int = 1
) -> Tensor:
    """1 at the live taps of an (O, I, k, k) weight, 0 elsewhere."""
    channels_out, channels_in, kernel, _ = shape
    middle = kernel // 2
    mask = torch.ones(shape)
    mask[:, :, middle + 1 :] = 0
    mask[:, :, middle, middle + 1 :] = 0
    part = channels_out // out_splits
    color_in = torch.arange(channels_in) * colors // channels_in
    color_out = torch.arange(channels_out) % part * colors // part
    before = color_in < color_out[:, None]
    same = color_in == color_out[:, None]
    mask[:, :, middle, middle] = (before | same if mask_type == "B" else before).float()
    return mask


def live_gradients(results: list[Tensor], mask: Tensor) -> list[Tensor]:
    """Blank the gradient of dead taps, which a dense convolution on masked weights computes."""
    return [r * mask.to(r.dtype) if r.shape == mask.shape else r for r in results]
