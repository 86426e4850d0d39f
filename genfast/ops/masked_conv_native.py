"""The masked convolution's own CUDA kernels, as registered ops and their derivatives.

Three products make a closed set, so that each one's derivatives are the other two:
`conv(x, w)`, `bwd_input(g, w)` (what conv's gradient sends to x) and `bwd_weight(g, x)` (to w).
All of them compute live taps only. On CPU PyTorch's dense convolution is faster; there are no kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native
from genfast.ops.gated import _gated_activation_bwd

_NO_STRIDES = (0, 0, 0, 0)


def gated_masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cond: Tensor | None, mask_type: str, colors: int
) -> Tensor:
    """The gate of a masked convolution in one kernel; arguments as the public function's, checked."""
    result: Tensor = _gated(x, weight, bias, cond, mask_type, colors)
    return result


def masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, colors: int, out_splits: int
) -> Tensor:
    """The plain convolution by genfast's own kernels; arguments as the public function's, checked."""
    result: Tensor = _conv(x, weight, bias, mask_type, colors, out_splits)
    return result


# ---- kernels -------------------------------------------------------------------------------------


def _shape(x: Tensor, weight_shape: Sequence[int], mask: str, colors: int, splits: int) -> list[int]:
    """MaskedConvShape of csrc/masked_conv/masked_conv.h; fp32 products follow cuDNN's TF32 switch."""
    batch, _, height, width = x.shape
    channels_out, channels_in, kernel_height, kernel_width = weight_shape
    tf32 = torch.backends.cudnn.allow_tf32
    return [
        _native.DTYPES[x.dtype], 0, tf32, mask == "A", batch, height, width, channels_in, channels_out,
        kernel_height, kernel_width, colors, splits,
    ]  # fmt: skip


def _workspace(x: Tensor, shape: list[int], which: int) -> Tensor:
    return x.new_empty(_C.masked_conv2d_workspaces(shape)[which], dtype=torch.uint8)


def _channels_last(x: Tensor, channels: int) -> Tensor:
    """An empty map of the size of x; channels-last is what the kernels write fastest."""
    n, _, height, width = x.shape
    return x.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _run_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cond: Tensor | None,
    mask_type: str,
    colors: int,
    splits: int,
    gate: bool,
) -> Tensor:
    shape = _shape(x, weight.shape, mask_type, colors, splits)
    y = _channels_last(x, weight.shape[0] // (2 if gate else 1))
    workspace = _workspace(x, shape, 0)
    if bias is not None:
        bias = bias.contiguous()
    cond_strides: Sequence[int] = _NO_STRIDES
    if cond is not None:
        cond_strides = cond.expand(x.shape[0], weight.shape[0], *x.shape[2:]).stride()
    _C.masked_conv2d_fwd_cuda(
        gate, shape, x.data_ptr(), x.stride(), weight.data_ptr(), weight.stride(),
        0 if bias is None else bias.data_ptr(), 0 if cond is None else cond.data_ptr(), cond_strides,
        y.data_ptr(), y.stride(), 0, _NO_STRIDES, workspace.data_ptr(), *_native.device_and_stream(x),
    )  # fmt: skip
    return y


def _gated_cuda(
    x: Tensor, weight: Tensor, bias: Tensor | None, cond: Tensor | None, mask_type: str, colors: int
) -> Tensor:
    return _run_forward(x, weight, bias, cond, mask_type, colors, splits=2, gate=True)


def _gated_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, cond: Tensor | None, mask_type: str, colors: int
) -> Tensor:
    return _channels_last(x, weight.shape[0] // 2)


def _conv_cuda(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, colors: int, splits: int
) -> Tensor:
    return _run_forward(x, weight, bias, None, mask_type, colors, splits, gate=False)


def _conv_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, colors: int, splits: int
) -> Tensor:
    return _channels_last(x, weight.shape[0])


def _bwd_input_cuda(grad: Tensor, weight: Tensor, mask_type: str, colors: int, splits: int) -> Tensor:
    shape = _shape(grad, weight.shape, mask_type, colors, splits)
    grad_x = _channels_last(grad, weight.shape[1])
    workspace = _workspace(grad, shape, 1)
    _C.masked_conv2d_bwd_input_cuda(
        shape, grad.data_ptr(), grad.stride(), weight.data_ptr(), weight.stride(),
        grad_x.data_ptr(), grad_x.stride(), workspace.data_ptr(), *_native.device_and_stream(grad),
    )  # fmt: skip
    return grad_x


def _bwd_input_fake(grad: Tensor, weight: Tensor, mask_type: str, colors: int, splits: int) -> Tensor:
    return _channels_last(grad, weight.shape[1])


def _bwd_weight_cuda(
    grad: Tensor, x: Tensor, kernel: Sequence[int], mask_type: str, colors: int, splits: int
) -> Tensor:
    weight_shape = (grad.shape[1], x.shape[1], *kernel)
    shape = _shape(x, weight_shape, mask_type, colors, splits)
    grad_weight = x.new_empty(weight_shape)
    workspace = _workspace(x, shape, 2)
    _C.masked_conv2d_bwd_weight_cuda(
        shape, grad.data_ptr(), grad.stride(), x.data_ptr(), x.stride(),
        grad_weight.data_ptr(), grad_weight.stride(), workspace.data_ptr(),
        *_native.device_and_stream(x),
    )  # fmt: skip
    return grad_weight


def _bwd_weight_fake(
    grad: Tensor, x: Tensor, kernel: Sequence[int], mask_type: str, colors: int, splits: int
) -> Tensor:
    return x.new_empty((grad.shape[1], x.shape[1], *kernel))


_gated_op = _native.define(
    "gated_masked_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor? cond, str mask_type, int colors)"
    " -> Tensor",
    cuda=_gated_cuda,
    fake=_gated_fake,
)
_conv_op = _native.define(
    "masked_conv2d(Tensor x, Tensor weight, Tensor? bias, str mask_type, int colors, int out_splits)"
    " -> Tensor",
    cuda=_conv_cuda,
    fake=_conv_fake,
)
_bwd_input_op = _native.define(
    "masked_conv2d_bwd_input(Tensor grad, Tensor weight, str mask_type, int colors, int out_splits)"
    " -> Tensor",
    cuda=_bwd_input_cuda,
    fake=_bwd_input_fake,
)
_bwd_weight_op = _native.define(
    "masked_conv2d_bwd_weight(Tensor grad, Tensor x, int[] kernel, str mask_type, int colors,"
    " int out_splits) -> Tensor",
    cuda=_bwd_weight_cuda,
    fake=_bwd_weight_fake,
)


# ---- derivatives ---------------------------------------------------------------------------------

Gradients = tuple[Tensor | None, ...]


def _gated_backward(
    needs: Sequence[bool],
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cond: Tensor | None,
    mask_type: str,
    colors: int,
) -> Gradients:
    # The map before the gate is computed again: it is twice as wide as anything that would be kept.
    pre = _conv(x, weight, bias, mask_type, colors, 2)
    grad_pre = _gated_activation_bwd(grad, pre, cond, 1)
    grad_cond = None if cond is None else _native.sum_to(grad_pre, cond)
    grad_x, grad_weight, grad_bias, *_ = _conv_backward(
        needs, grad_pre, x, weight, bias, mask_type, colors, 2
    )
    return grad_x, grad_weight, grad_bias, grad_cond, None, None


def _conv_backward(
    needs: Sequence[bool],
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask_type: str,
    colors: int,
    splits: int,
) -> Gradients:
    kernel = list(weight.shape[2:])
    return (
        _bwd_input(grad, weight, mask_type, colors, splits) if needs[0] else None,
        _bwd_weight(grad, x, kernel, mask_type, colors, splits) if needs[1] else None,
        grad.sum((0, 2, 3)) if bias is not None and needs[2] else None,
        None,
        None,
        None,
    )


def _bwd_input_backward(
    needs: Sequence[bool],
    v: Tensor,
    grad: Tensor,
    weight: Tensor,
    mask_type: str,
    colors: int,
    splits: int,
) -> Gradients:
    kernel = list(weight.shape[2:])
    return (
        _conv(v, weight, None, mask_type, colors, splits) if needs[0] else None,
        _bwd_weight(grad, v, kernel, mask_type, colors, splits) if needs[1] else None,
        None,
        None,
        None,
    )


def _bwd_weight_backward(
    needs: Sequence[bool],
    v: Tensor,
    grad: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    mask_type: str,
    colors: int,
    splits: int,
) -> Gradients:
    return (
        _conv(x, v, None, mask_type, colors, splits) if needs[0] else None,
        _bwd_input(grad, v, mask_type, colors, splits) if needs[1] else None,
        None,
        None,
        None,
        None,
    )


_gated = _native.differentiable(_gated_op, _gated_backward, "GatedMaskedConv2d")
_conv = _native.differentiable(_conv_op, _conv_backward, "MaskedConv2d")
_bwd_input = _native.differentiable(_bwd_input_op, _bwd_input_backward, "MaskedConv2dInputGradient")
_bwd_weight = _native.differentiable(_bwd_weight_op, _bwd_weight_backward, "MaskedConv2dWeightGradient")
