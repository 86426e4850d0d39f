"""The layers of PixelRNN: LSTM scans with their weights and learned initial states.

Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.nn.masked_conv import MaskedConv2d
from genfast.ops import diagonal_lstm, row_lstm
from genfast.ops.lstm_scan import Saved


class _ScanLayer(nn.Module):
    """A masked convolution to the gates, recurrent weights and initial states."""

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        kernel_size: tuple[int, int],
        taps: int,
        colors: int,
        learned_init: bool,
        saved: Saved,
    ) -> None:
        super().__init__()
        self.input_to_state = MaskedConv2d(
            in_channels, 4 * hidden, kernel_size, mask_type="B", colors=colors, out_splits=4
        )
        self.weight = nn.Parameter(torch.empty(4 * hidden, hidden, taps))
        nn.init.uniform_(self.weight, -(hidden**-0.5), hidden**-0.5)
        self.h0 = nn.Parameter(torch.zeros(hidden)) if learned_init else None
        self.c0 = nn.Parameter(torch.zeros(hidden)) if learned_init else None
        self.saved: Saved = saved

    def extra_repr(self) -> str:
        return f"hidden={self.weight.shape[1]}, saved={self.saved!r}"


class RowLSTM(_ScanLayer):
    """The Row LSTM; see `genfast.ops.row_lstm`. The input-to-state convolution is 1 x 3, mask B.

    Args:
        in_channels, hidden: channels of the input (N, in_channels, H, W) and of the output.
        colors: number of colour groups; those of the gates restart in each of the four.
        learned_init: whether the initial states `h0` and `c0`, (hidden,), are parameters; or else zero.
        saved: what the scan keeps for the backward.

    >>> import torch, genfast
    >>> genfast.nn.RowLSTM(6, 8)(torch.randn(2, 6, 5, 4)).shape
    torch.Size([2, 8, 5, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        colors: int = 1,
        learned_init: bool = True,
        saved: Saved = "minimal",
    ) -> None:
        super().__init__(in_channels, hidden, (1, 3), 3, colors, learned_init, saved)

    def forward(self, x: Tensor) -> Tensor:
        return row_lstm(self.input_to_state(x), self.weight, self.h0, self.c0, saved=self.saved)


class DiagonalLSTM(_ScanLayer):
    """The Diagonal LSTM in one direction; see `genfast.ops.diagonal_lstm`. Its convolution is 1x1.

    Args:
        in_channels, hidden, colors, learned_init, saved: as in `RowLSTM`.
        reverse: from right to left.

    >>> import torch, genfast
    >>> genfast.nn.DiagonalLSTM(6, 8, reverse=True)(torch.randn(2, 6, 5, 4)).shape
    torch.Size([2, 8, 5, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        reverse: bool = False,
        colors: int = 1,
        learned_init: bool = True,
        saved: Saved = "minimal",
    ) -> None:
        super().__init__(in_channels, hidden, (1, 1), 2, colors, learned_init, saved)
        self.reverse = reverse

    def forward(self, x: Tensor) -> Tensor:
        return self.scan(self.input_to_state(x))

    def scan(self, gates: Tensor) -> Tensor:
        """The recurrence alone, from gates (N, 4 * hidden, H, W)."""
        return diagonal_lstm(
            gates, self.weight, self.h0, self.c0, reverse=self.reverse, saved=self.saved
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, reverse={self.reverse}"


class DiagonalBiLSTM(nn.Module):
    """Both directions: Y[r,c] = left[r,c] + right[r-1,c].

    The map from right to left is moved down by one row, or a pixel would see those to its right. Its
    last row is never used, so the scan leaves it out.

    Args:
        in_channels, hidden, colors, learned_init, saved: as in `RowLSTM`.

    >>> import torch, genfast
    >>> genfast.nn.DiagonalBiLSTM(6, 8)(torch.randn(2, 6, 5, 4)).shape
    torch.Size([2, 8, 5, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        colors: int = 1,
        learned_init: bool = True,
        saved: Saved = "minimal",
    ) -> None:
        super().__init__()
        self.left = DiagonalLSTM(
            in_channels, hidden, colors=colors, learned_init=learned_init, saved=saved
        )
        self.right = DiagonalLSTM(
            in_channels, hidden, reverse=True, colors=colors, learned_init=learned_init, saved=saved
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.left(x)
        right = self.right.scan(self.right.input_to_state(x)[:, :, :-1])
        return y + F.pad(right, (0, 0, 1, 0))
