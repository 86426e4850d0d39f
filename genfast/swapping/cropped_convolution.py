"""The vertical stack of a Gated PixelCNN port: one convolution, two views of its rows.

The port pads kh rows above and below and returns the rows [1, H + 1) and [0, H) of the result: the rows
above and including each pixel's own, and those strictly above it. The twin computes rows 0..H only. Both
outputs stay views of one tensor: that port adds to the first in place, which the second sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from genfast.swapping.masked_convolution import padded_conv2d
from genfast.swapping.recognition import Candidate, Change, overrides_forward
from genfast.swapping.twin import Twin


class CroppedPairTwin(Twin):
    """A convolution that computes no row that is cropped afterwards."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        conv: Any = self
        side = conv.padding[1]
        pad = (side, side, conv.padding[0], 0)
        y = padded_conv2d(x, conv.weight, conv.bias, pad, conv)
        return y[..., 1:, :], y[..., :-1, :]


def cropped_convolution(module: nn.Module) -> Iterator[Candidate]:
    """The pattern; see the head of this file."""
    if not (isinstance(module, nn.Conv2d) and overrides_forward(module, nn.Conv2d)):
        return
    if module.padding_mode == "zeros" and module.padding[0] == module.kernel_size[0]:
        change = Change("", CroppedPairTwin)
        yield Candidate("convolution of the rows that are used", (change,), (module.in_channels,))
