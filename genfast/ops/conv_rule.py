"""Which convolution runs on CUDA: cuDNN's on the kernel cropped to its live rows, or genfast's own.

Both compute the same thing. cuDNN also multiplies by the dead taps of the centre row; genfast's kernels
(`masked_conv_native`) do not, and apply bias, condition and gate on the way out. Which is faster is for
measurement to say: `conv_table` is made of benchmark results, and what is not in it goes to cuDNN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genfast.ops import _native
from genfast.ops.conv_table import MEASURED


def own_kernel(op: str, x: Tensor, weight: Tensor) -> bool:
    """Whether genfast's kernel computes `op`, "masked_conv2d" or "gated_masked_conv2d".

    Never under torch.func, where the composition of PyTorch's own functions has the better rules.

    Args:
        op: the public function.
        x: (N, I, H, W), in the dtype that will be computed with.
        weight: (O, I, kh, kw).
    """
    if not MEASURED or x.device.type != "cuda" or _native.transforms_active():
        return False
    height, width = weight.shape[2:]
    return height == width and faster(op, arithmetic(x.dtype), height, weight.shape[1])


def arithmetic(dtype: torch.dtype) -> str:
    """The name of what a convolution in `dtype` computes with: "tf32" if fp32 may be rounded to it."""
    if dtype is torch.float32 and torch.backends.cudnn.allow_tf32:
        return "tf32"
    return str(dtype).removeprefix("torch.")


def faster(op: str, name: str, kernel: int, channels: int) -> bool:
    """What was measured with as many input channels or, where none was, with the next fewer.

    >>> from genfast.ops.conv_rule import faster
    >>> faster("masked_conv2d", "an arithmetic that nobody measured", 3, 128)
    False
    """
    smaller = [c for o, a, k, c in MEASURED if (o, a, k) == (op, name, kernel) and c <= channels]
    return bool(smaller) and MEASURED[op, name, kernel, max(smaller)]
