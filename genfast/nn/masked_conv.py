"""Causal convolutions as modules; parameters and state_dict are those of torch.nn's convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from genfast.ops import (
    gated_masked_conv2d,
    masked_conv2d,
    shifted_conv2d,
    shifted_conv_transpose2d,
)
from genfast.ops.masked_conv import MaskType, Shift


class MaskedConv2d(nn.Conv2d):
    """nn.Conv2d with a causal mask; see `genfast.ops.masked_conv2d`.

    The weight keeps its full shape, so that any port's checkpoint loads; what its dead taps hold is
    ignored, and neither forward nor backward changes them.

    Args:
        in_channels, out_channels, bias: as nn.Conv2d.
        kernel_size: odd, an int or (height, width).
        mask_type: "A" or "B".
        colors: number of colour groups.
        out_splits: number of parts in which the colour map of the output restarts.

    >>> import torch, genfast
    >>> conv = genfast.nn.MaskedConv2d(3, 6, 7, mask_type="A", colors=3)
    >>> conv(torch.randn(1, 3, 8, 8)).shape
    torch.Size([1, 6, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        mask_type: MaskType,
        colors: int = 1,
        out_splits: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.mask_type = mask_type
        self.colors = colors
        self.out_splits = out_splits

    def forward(self, input: Tensor) -> Tensor:
        return masked_conv2d(
            input,
            self.weight,
            self.bias,
            mask_type=self.mask_type,
            colors=self.colors,
            out_splits=self.out_splits,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mask_type={self.mask_type!r}, colors={self.colors}"


class GatedMaskedConv2d(nn.Conv2d):
    """A masked convolution to twice `out_channels`, gated down to `out_channels`.

    See `genfast.ops.gated_masked_conv2d`. Parameters are those of
    nn.Conv2d(in_channels, 2 * out_channels, kernel_size).

    >>> import torch, genfast
    >>> block = genfast.nn.GatedMaskedConv2d(4, 8, 3, mask_type="B")
    >>> block(torch.randn(1, 4, 5, 5), cond=torch.randn(1, 16, 1, 1)).shape
    torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        mask_type: MaskType,
        colors: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, 2 * out_channels, kernel_size, bias=bias)
        self.mask_type = mask_type
        self.colors = colors

    def forward(self, input: Tensor, cond: Tensor | None = None) -> Tensor:
        return gated_masked_conv2d(
            input, self.weight, self.bias, cond, mask_type=self.mask_type, colors=self.colors
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mask_type={self.mask_type!r}, colors={self.colors}"


class ShiftedConv2d(nn.Conv2d):
    """PixelCNN++'s convolution on what lies above ("down") or above and left ("down_right").

    See `genfast.ops.shifted_conv2d`. Parameters are those of nn.Conv2d.

    >>> import torch, genfast
    >>> conv = genfast.nn.ShiftedConv2d(3, 8, (2, 3), shift="down", stride=2)
    >>> conv(torch.randn(1, 3, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        shift: Shift,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        self.shift = shift

    def forward(self, input: Tensor) -> Tensor:
        return shifted_conv2d(input, self.weight, self.bias, shift=self.shift, stride=self.stride[0])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, shift={self.shift!r}"


class ShiftedConvTranspose2d(nn.ConvTranspose2d):
    """The transposed shifted convolution; see `genfast.ops.shifted_conv_transpose2d`.

    Parameters are those of nn.ConvTranspose2d.

    >>> import torch, genfast
    >>> conv = genfast.nn.ShiftedConvTranspose2d(8, 3, (2, 3), shift="down", stride=2)
    >>> conv(torch.randn(1, 8, 3, 3)).shape
    torch.Size([1, 3, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        shift: Shift,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        self.shift = shift

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("output_size is not an option: the output is exactly stride x the input")
        return shifted_conv_transpose2d(
            input, self.weight, self.bias, shift=self.shift, stride=self.stride[0]
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, shift={self.shift!r}"
