"""Causal convolutions in plain PyTorch: a dense convolution on an explicitly masked kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.reference.gated import gated_activation


def causal_mask(
    shape: tuple[int, int, int, int], mask_type: str, colors: int = 1, out_splits: int = 1
) -> Tensor:
    """Which taps of an (O, I, kh, kw) kernel are live, as bool.

    >>> import genfast
    >>> genfast.reference.causal_mask((1, 1, 3, 3), "A")[0, 0].int().tolist()
    [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    """
    channels_out, channels_in, kh, kw = shape
    part = channels_out // out_splits
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, :, : kh // 2] = True
    mask[:, :, kh // 2, : kw // 2] = True
    for o in range(channels_out):
        for i in range(channels_in):
            colour_out, colour_in = (o % part) * colors // part, i * colors // channels_in
            live = colour_in < colour_out if mask_type == "A" else colour_in <= colour_out
            mask[o, i, kh // 2, kw // 2] = live
    return mask


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: str,
    colors: int = 1,
    out_splits: int = 1,
) -> Tensor:
    """Convolution with the kernel's dead taps set to zero.

    >>> import torch, genfast
    >>> x, weight = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)
    >>> genfast.reference.masked_conv2d(x, weight, mask_type="A")[0, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    o, i, kh, kw = weight.shape
    mask = causal_mask((o, i, kh, kw), mask_type, colors, out_splits).to(weight.device)
    return F.conv2d(x, torch.where(mask, weight, 0), bias, padding=(kh // 2, kw // 2))


def gated_masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    cond: Tensor | None = None,
    *,
    mask_type: str,
    colors: int = 1,
) -> Tensor:
    """The gate of a masked convolution.

    >>> import torch, genfast
    >>> x, weight = torch.ones(1, 1, 2, 2), torch.zeros(2, 1, 3, 3)
    >>> genfast.reference.gated_masked_conv2d(x, weight, mask_type="B").sum().item()
    0.0
    """
    y = masked_conv2d(x, weight, bias, mask_type=mask_type, colors=colors, out_splits=2)
    return gated_activation(y, cond)


class MaskedConv2d(nn.Conv2d):
    """A dense convolution whose weight is multiplied by a mask at every call.

    >>> import torch
    >>> from genfast.reference.masked_conv import MaskedConv2d
    >>> MaskedConv2d(1, 8, (3, 3), "A")(torch.randn(1, 1, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        mask_type: str,
        colors: int = 1,
        out_splits: int = 1,
    ) -> None:
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        shape = (out_channels, in_channels, *kernel_size)
        mask = causal_mask(shape, mask_type, colors, out_splits).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


def shifted_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shift: str, stride: int = 1
) -> Tensor:
    """Pad above (and left), then convolve without padding.

    >>> import torch, genfast
    >>> x, weight = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    >>> genfast.reference.shifted_conv2d(x, weight, shift="down_right")[0, 0].tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    kh, kw = weight.shape[2:]
    left, right = (kw - 1, 0) if shift == "down_right" else ((kw - 1) // 2, (kw - 1) // 2)
    return F.conv2d(F.pad(x, (left, right, kh - 1, 0)), weight, bias, stride=stride)


def shifted_conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shift: str, stride: int = 1
) -> Tensor:
    """Every input pixel adds its kernel to a canvas; what hangs over is cut off.

    >>> import torch, genfast
    >>> x, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 2, 2)
    >>> y = genfast.reference.shifted_conv_transpose2d(x, weight, shift="down_right", stride=2)
    >>> y[0, 0].tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    n, _, height, width = x.shape
    channels_out, kh, kw = weight.shape[1:]
    canvas = x.new_zeros(n, channels_out, stride * height + kh - 1, stride * width + kw - 1)
    for u in range(kh):
        for v in range(kw):
            tap = torch.einsum("nihw,io->nohw", x, weight[:, :, u, v])
            placed = torch.zeros_like(canvas)
            rows = slice(u, u + stride * height, stride)
            placed[:, :, rows, v : v + stride * width : stride] = tap
            canvas = canvas + placed
    left = (kw - 1) // 2 if shift == "down" else 0
    y = canvas[:, :, : stride * height, left : left + stride * width]
    return y if bias is None else y + bias[:, None, None]
