"""The kernel of a masked convolution, cropped to what of it is live."""

from __future__ import annotations

from torch import Tensor


def live_taps(weight: Tensor, mask_type: str, colors: int, out_splits: int) -> Tensor:
    """The kernel down to its centre row (and, for a row kernel, column), dead taps zero.

    They are overwritten, not multiplied by zero: not even a NaN in one comes through.
    """
    row, column = weight.shape[2] // 2, weight.shape[3] // 2
    live = weight[:, :, : row + 1] if row else weight[..., : column + 1]
    if not row and colors == 1 and mask_type == "B":
        return live
    live = live.clone()
    if column + 1 < live.shape[3]:
        live[:, :, row, column + 1 :] = 0
    if colors > 1 or mask_type == "A":
        live[:, :, row, column] = _live_centre(weight[:, :, row, column], mask_type, colors, out_splits)
    return live


def _live_centre(centre: Tensor, mask_type: str, colors: int, out_splits: int) -> Tensor:
    """The centre taps (O, I), zero where the order of the colours forbids them.

    The outputs of one colour are a run of channels and so are the inputs they must not see, so that a
    few fills do it: a boolean mask takes PyTorch 20 times as long.
    """
    centre = centre.clone()
    channels_out, channels_in = centre.shape
    part = channels_out // out_splits
    for first in range(0, channels_out, part):
        for colour in range(colors):
            rows = slice(first + _first(colour, part, colors), first + _first(colour + 1, part, colors))
            seen = colour if mask_type == "A" else colour + 1
            centre[rows, _first(seen, channels_in, colors) :] = 0
    return centre


def _first(colour: int, channels: int, colors: int) -> int:
    """The first channel whose colour floor(k * colors / channels) is `colour` or more."""
    return -(-colour * channels // colors)
