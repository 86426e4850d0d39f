"""Causal convolutions: masked (PixelCNN), masked and gated (Gated PixelCNN), shifted (PixelCNN++).

The dense convolution itself is PyTorch's: on CPU nothing beats oneDNN, and on CUDA cuDNN's wherever
genfast's own kernels were not measured to be faster (`conv_rule`). What is gained is what is not
computed: a mask kills the rows below the centre, so the kernel is cropped to its live rows and the image
padded on top instead. Slicing an output computed with more padding would cost most of the gain.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from genfast.ops import _native, conv_rule, masked_conv_native
from genfast.ops.gated import checked_cond, gated_activation
from genfast.ops.live_taps import live_taps

MaskType = Literal["A", "B"]
Shift = Literal["down", "down_right"]


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: MaskType,
    colors: int = 1,
    out_splits: int = 1,
) -> Tensor:
    """Raster-causal convolution, stride 1, same padding.

    Output pixel (r, c) sees the rows above r and, on row r, the columns before c. The centre tap is
    live iff colour_in < colour_out (mask "A", first layer) or colour_in <= colour_out ("B"), where
    channel k of K has colour floor(k * colors / K). On the output side the map restarts in each of
    `out_splits` equal parts (2 for gates, 4 for LSTM gates).

    Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.4.

    Args:
        x: (N, I, H, W), any strides; channels-last is the fast layout.
        weight: (O, I, kh, kw) with odd kh, kw. Its dead taps are ignored, whatever they hold, and get
            zero gradient. It is not modified.
        bias: (O,) or None.
        mask_type: "A" or "B".
        colors: number of colour groups; 1 for grey images.
        out_splits: number of parts in which the colour map of the output restarts.

    Returns:
        (N, O, H, W).

    Raises:
        TypeError: unsupported or differing dtypes (outside torch.autocast, which applies as to conv2d).
        ValueError: even kernel, wrong shapes, unknown mask, fewer channels than colours in a part, or
            O not a multiple of `out_splits`.

    >>> import torch, genfast
    >>> x, weight = torch.randn(1, 1, 5, 5), torch.randn(8, 1, 3, 3)
    >>> genfast.ops.masked_conv2d(x, weight, mask_type="A").shape
    torch.Size([1, 8, 5, 5])
    """
    _check_masked_conv(x, weight, bias, mask_type, colors, out_splits)
    return _masked_conv2d(x, weight, bias, mask_type, colors, out_splits)


def gated_masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    cond: Tensor | None = None,
    *,
    mask_type: MaskType,
    colors: int = 1,
) -> Tensor:
    """gated_activation(masked_conv2d(x, weight, bias, out_splits=2), cond).

    Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016), eq. 2-4.

    Args:
        x: (N, I, H, W).
        weight: (2P, I, kh, kw), see `masked_conv2d`.
        bias: (2P,) or None.
        cond: broadcastable to (N, 2P, H, W), e.g. (N, 2P, 1, 1) for a class or None.
        mask_type: "A" or "B".
        colors: number of colour groups; both halves of the output have all of them.

    Returns:
        (N, P, H, W).

    Raises:
        TypeError, ValueError: as `masked_conv2d` and `gated_activation`.

    >>> import torch, genfast
    >>> x, weight = torch.randn(2, 6, 4, 4), torch.randn(12, 6, 3, 3)
    >>> genfast.ops.gated_masked_conv2d(x, weight, mask_type="B", colors=3).shape
    torch.Size([2, 6, 4, 4])
    """
    _check_masked_conv(x, weight, bias, mask_type, colors, 2)
    x, weight = _native.lower_precision(x), _native.lower_precision(weight)
    if conv_rule.own_kernel("gated_masked_conv2d", x, weight):
        bias = None if bias is None else _native.lower_precision(bias)
        cond = checked_cond(cond, x, (x.shape[0], weight.shape[0], *x.shape[2:]))
        return masked_conv_native.gated_masked_conv2d(x, weight, bias, cond, mask_type, colors)
    return gated_activation(_masked_conv2d(x, weight, bias, mask_type, colors, 2), cond)


def shifted_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shift: Shift, stride: int = 1
) -> Tensor:
    """PixelCNN++'s convolution that sees only what lies above ("down") or above and left.

    "down" pads kh-1 rows on top and (kw-1)/2 columns on each side; "down_right" pads kh-1 rows on top
    and kw-1 columns on the left. The pixel itself is seen.

    Source: Salimans et al., "PixelCNN++" (2017), section 2.3 and the official code.

    Args:
        x: (N, I, H, W).
        weight: (O, I, kh, kw); kw odd for "down".
        bias: (O,) or None.
        shift: "down" or "down_right".
        stride: of both dimensions.

    Returns:
        (N, O, ceil(H / stride), ceil(W / stride)).

    Raises:
        TypeError: unsupported or differing dtypes (outside torch.autocast).
        ValueError: wrong shapes, unknown shift, even kw with "down", stride < 1.

    >>> import torch, genfast
    >>> x, weight = torch.randn(1, 3, 5, 5), torch.randn(8, 3, 2, 3)
    >>> genfast.ops.shifted_conv2d(x, weight, shift="down", stride=2).shape
    torch.Size([1, 8, 3, 3])
    """
    _check_conv(x, weight, bias)
    _check_shift(weight, shift, stride)
    kh, kw = weight.shape[2:]
    left, side = (kw - 1, 0) if shift == "down_right" else (0, kw // 2)
    if left or kh > 1:
        x = F.pad(x, (left, 0, kh - 1, 0))
    return F.conv2d(x, weight, bias, stride=stride, padding=(0, side))


def shifted_conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shift: Shift, stride: int = 1
) -> Tensor:
    """The transposed form of `shifted_conv2d`, cropped to exactly `stride` times the size.

    The last kh-1 rows are cropped, and (kw-1)/2 columns on each side ("down") or the last kw-1 columns
    ("down_right").

    Source: Salimans et al., "PixelCNN++" (2017), official code.

    Args:
        x: (N, I, H, W).
        weight: (I, O, kh, kw), as torch.nn.ConvTranspose2d; kw odd for "down".
        bias: (O,) or None.
        shift: "down" or "down_right".
        stride: of both dimensions.

    Returns:
        (N, O, stride * H, stride * W).

    Raises:
        TypeError, ValueError: as `shifted_conv2d`.

    >>> import torch, genfast
    >>> x, weight = torch.randn(1, 8, 3, 3), torch.randn(8, 4, 2, 3)
    >>> genfast.ops.shifted_conv_transpose2d(x, weight, shift="down", stride=2).shape
    torch.Size([1, 4, 6, 6])
    """
    _check_conv(x, weight, bias, transposed=True)
    _check_shift(weight, shift, stride)
    side = weight.shape[3] // 2 if shift == "down" else 0
    height, width = stride * x.shape[2], stride * x.shape[3]
    y = F.conv_transpose2d(x, weight, bias, stride=stride, padding=(0, side), output_padding=stride - 1)
    return y[:, :, :height, :width]


def _masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: MaskType, colors: int, out_splits: int
) -> Tensor:
    """masked_conv2d of checked arguments."""
    # Cast before it is cropped: torch.cat refuses fp16 under a bf16 autocast.
    x, weight = _native.lower_precision(x), _native.lower_precision(weight)
    if conv_rule.own_kernel("masked_conv2d", x, weight):
        bias = None if bias is None else _native.lower_precision(bias)
        return masked_conv_native.masked_conv2d(x, weight, bias, mask_type, colors, out_splits)
    return cropped_conv2d(x, weight, bias, mask_type, colors, out_splits)


def cropped_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: MaskType, colors: int, out_splits: int
) -> Tensor:
    """PyTorch's convolution with the kernel cropped to its live rows; arguments checked."""
    kh, kw = weight.shape[2:]
    live = live_taps(weight, mask_type, colors, out_splits)
    top, side = kh // 2, kw // 2
    if kh == 1:  # a row: the columns to the right are dead, so they are cropped too
        return F.conv2d(F.pad(x, (side, 0)) if side else x, live, bias)
    return F.conv2d(F.pad(x, (0, 0, top, 0)), live, bias, padding=(0, side))


def _check_conv(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool = False) -> None:
    _native.check_tensor("x", x, ndim=4)
    _native.check_tensor("weight", weight, ndim=4)
    for name, tensor in (("x", x), ("weight", weight)):
        if 0 in tensor.shape[1:]:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} has an empty dimension")
    channels_in, channels_out = weight.shape[:2] if transposed else weight.shape[1::-1]
    if x.shape[1] != channels_in:
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} takes {channels_in} input channels, "
            f"but x has shape {tuple(x.shape)}"
        )
    if bias is not None:
        _native.check_tensor("bias", bias, ndim=1)
        if bias.shape[0] != channels_out:
            raise ValueError(f"bias must have shape ({channels_out},), got {tuple(bias.shape)}")
    if not _native.autocast_active(x):
        _native.check_like("weight", weight, "x", x)
        if bias is not None:
            _native.check_like("bias", bias, "x", x)


def _check_masked_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, colors: int, out_splits: int
) -> None:
    _check_conv(x, weight, bias)
    kh, kw = weight.shape[2:]
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"weight must have an odd kernel, got {kh}x{kw}")
    if mask_type not in ("A", "B"):
        raise ValueError(f"mask_type must be 'A' or 'B', got {mask_type!r}")
    _check_colors(weight, colors, out_splits)


def _check_colors(weight: Tensor, colors: int, out_splits: int) -> None:
    channels_out, channels_in = weight.shape[:2]
    _native.check_int("colors", colors)
    _native.check_int("out_splits", out_splits)
    if colors < 1 or out_splits < 1:
        raise ValueError(f"colors={colors} and out_splits={out_splits} must be at least 1")
    if channels_out % out_splits:
        raise ValueError(
            f"weight has {channels_out} output channels, not a multiple of out_splits={out_splits}"
        )
    if colors > min(channels_in, channels_out // out_splits):
        raise ValueError(
            f"colors={colors} needs at least as many channels: weight has {channels_in} inputs and "
            f"{channels_out // out_splits} outputs in each of out_splits={out_splits} parts"
        )


def _check_shift(weight: Tensor, shift: str, stride: int) -> None:
    if shift not in ("down", "down_right"):
        raise ValueError(f"shift must be 'down' or 'down_right', got {shift!r}")
    if shift == "down" and weight.shape[3] % 2 == 0:
        raise ValueError(
            f"shift='down' needs an odd kernel width, got weight of shape {tuple(weight.shape)}"
        )
    _native.check_int("stride", stride)
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
