"""gated_activation: the gate of Gated PixelCNN and of WaveNet, in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native


def gated_activation(x: Tensor, cond: Tensor | None = None, *, dim: int = 1) -> Tensor:
    """tanh(a + ca) * sigmoid(b + cb), where a, b are the halves of `x` along `dim`.

    Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016), eq. 2-4.

    Args:
        x: any shape with an even size along `dim`, any strides; fp32, fp64, bf16 or fp16. 16-bit
            inputs are computed in fp32 and rounded once.
        cond: broadcastable to `x` and of its dtype; its halves ca, cb along `dim` are added before the
            gate. Under torch.autocast it is cast to the dtype of `x`.
        dim: the dimension that is split.

    Returns:
        A tensor of the shape of `x` with `dim` halved, in the memory format of `x`.

    Raises:
        TypeError: `x` or `cond` is not a tensor of a supported dtype, or their dtypes differ.
        ValueError: the size along `dim` is odd, `dim` does not exist, `cond` does not broadcast to `x`,
            or the devices differ.

    In fp32 the result is within 5 ulp, each gradient within 9 ulp of exact; below b = -87 the sigmoid
    stays at 6e-39 instead of going on to 0. Double backward is right, and runs in plain PyTorch.

    >>> import torch, genfast
    >>> x = torch.randn(2, 8, 5, 5)
    >>> genfast.ops.gated_activation(x).shape
    torch.Size([2, 4, 5, 5])
    >>> class_bias = torch.randn(2, 8, 1, 1)
    >>> y = genfast.ops.gated_activation(x, class_bias)
    >>> a, b = (x + class_bias).chunk(2, dim=1)
    >>> torch.allclose(y, torch.tanh(a) * torch.sigmoid(b), atol=1e-6)
    True
    """
    _native.check_tensor("x", x)
    _native.check_int("dim", dim)
    shape = x.shape
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"dim={dim} does not exist in x of shape {tuple(shape)}")
    if dim < 0:
        dim += len(shape)
    if shape[dim] % 2:
        raise ValueError(
            f"x must have an even size along dim={dim} to be split in halves, got shape {tuple(shape)}"
        )
    if cond is not None:
        cond = checked_cond(cond, x, shape)
    return _gated_activation(x, cond, dim)  # type: ignore[no-any-return]


def checked_cond(cond: Tensor | None, x: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A condition for a gate of `shape`, computed from `x`; cast to its dtype under autocast."""
    if cond is None:
        return None
    _native.check_tensor("cond", cond)
    if _native.autocast_active(x):
        cond = cond.to(x.dtype)
    _native.check_like("cond", cond, "x", x)
    missing = len(shape) - cond.ndim
    sizes = zip(shape[max(missing, 0) :], cond.shape, strict=False)
    if missing < 0 or any(c not in (1, n) for n, c in sizes):
        raise ValueError(
            f"cond of shape {tuple(cond.shape)} does not broadcast to the gate's {tuple(shape)}"
        )
    return cond


# ---- kernels -------------------------------------------------------------------------------------


def _empty_half(x: Tensor, dim: int) -> Tensor:
    shape = list(x.shape)
    shape[dim] //= 2
    if x.is_contiguous():
        return x.new_empty(shape)
    return torch.empty_like(x.narrow(dim, 0, shape[dim]))  # keeps the order of the strides


def _cond_operand(x: Tensor, cond: Tensor | None) -> tuple[int, Sequence[int]]:
    """Address (0: none) and strides of cond broadcast to x."""
    if cond is None:
        return 0, ()
    return cond.data_ptr(), cond.expand(x.shape).stride()


def _forward_kernel(
    x: Tensor, cond: Tensor | None, dim: int, kernel: Callable[..., None], *place: int
) -> Tensor:
    y = _empty_half(x, dim)
    cond_address, cond_strides = _cond_operand(x, cond)
    kernel(
        x.data_ptr(), x.stride(), cond_address, cond_strides,
        y.data_ptr(), y.shape, y.stride(), dim, _native.DTYPES[x.dtype], *place,
    )  # fmt: skip
    return y


def _forward_cpu(x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    return _forward_kernel(x, cond, dim, _C.gated_activation_fwd, torch.get_num_threads())


def _forward_cuda(x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    return _forward_kernel(x, cond, dim, _C.gated_activation_fwd_cuda, *_native.device_and_stream(x))


def _forward_fake(x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    return _empty_half(x, dim)


def _backward_kernel(
    grad: Tensor, x: Tensor, cond: Tensor | None, dim: int, kernel: Callable[..., None], *place: int
) -> Tensor:
    grad_x = torch.empty_like(x)
    cond_address, cond_strides = _cond_operand(x, cond)
    kernel(
        x.data_ptr(), x.stride(), cond_address, cond_strides,
        grad.data_ptr(), grad.shape, grad.stride(), grad_x.data_ptr(), grad_x.stride(),
        dim, _native.DTYPES[x.dtype], *place,
    )  # fmt: skip
    return grad_x


def _backward_cpu(grad: Tensor, x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    return _backward_kernel(grad, x, cond, dim, _C.gated_activation_bwd, torch.get_num_threads())


def _backward_cuda(grad: Tensor, x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    place = _native.device_and_stream(x)
    return _backward_kernel(grad, x, cond, dim, _C.gated_activation_bwd_cuda, *place)


def _backward_fake(grad: Tensor, x: Tensor, cond: Tensor | None, dim: int) -> Tensor:
    return torch.empty_like(x)


_forward_op = _native.define(
    "gated_activation(Tensor x, Tensor? cond, int dim) -> Tensor",
    cpu=_forward_cpu,
    cuda=_forward_cuda,
    fake=_forward_fake,
)
_backward_op = _native.define(
    "gated_activation_bwd(Tensor grad, Tensor x, Tensor? cond, int dim) -> Tensor",
    cpu=_backward_cpu,
    cuda=_backward_cuda,
    fake=_backward_fake,
)


def _batched_cond(cond: Tensor | None, batch_dim: int | None, size: int, ndim: int) -> Tensor | None:
    """cond with the batch in front of the `ndim` dimensions of an unbatched x."""
    if cond is None or batch_dim is None:
        return cond
    cond = cond.movedim(batch_dim, 0)
    return cond.reshape(size, *(1,) * (ndim + 1 - cond.ndim), *cond.shape[1:])


def _forward_vmap(
    info: Any, in_dims: Sequence[int | None], x: Tensor, cond: Tensor | None, dim: int
) -> tuple[Tensor, int]:
    x = _native.batch_first(x, in_dims[0], info.batch_size)
    cond = _batched_cond(cond, in_dims[1], info.batch_size, x.ndim - 1)
    return _forward_op(x, cond, dim + 1), 0


def _backward_vmap(
    info: Any,
    in_dims: Sequence[int | None],
    grad: Tensor,
    x: Tensor,
    cond: Tensor | None,
    dim: int,
) -> tuple[Tensor, int]:
    grad = _native.batch_first(grad, in_dims[0], info.batch_size)
    x = _native.batch_first(x, in_dims[1], info.batch_size)
    cond = _batched_cond(cond, in_dims[2], info.batch_size, x.ndim - 1)
    return _backward_op(grad, x, cond, dim + 1), 0


_native.vmap_rule("gated_activation", _forward_vmap)
_native.vmap_rule("gated_activation_bwd", _backward_vmap)


# ---- derivatives ---------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool], grad: Tensor, x: Tensor, cond: Tensor | None, dim: int
) -> tuple[Tensor | None, ...]:
    grad_x = _gated_activation_bwd(grad, x, cond, dim)
    return grad_x, _native.sum_to(grad_x, cond) if cond is not None else None, None


def _double_backward(
    needs: Sequence[bool],
    v: Tensor,
    grad: Tensor,
    x: Tensor,
    cond: Tensor | None,
    dim: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of <v, grad_x> in plain PyTorch, differentiable to any order."""
    a, b = (x if cond is None else x + cond).chunk(2, dim)
    va, vb = v.chunk(2, dim)
    t, s = torch.tanh(a), torch.sigmoid(b)
    dt, ds = 1 - t * t, s * (1 - s)
    grad_of_grad = va * dt * s + vb * t * ds
    grad_a = grad * dt * (vb * ds - 2 * va * t * s)
    grad_b = grad * ds * (va * dt + vb * t * (1 - 2 * s))
    grad_x = torch.cat([grad_a, grad_b], dim)
    return grad_of_grad, grad_x, _native.sum_to(grad_x, cond) if cond is not None else None, None


_gated_activation = _native.differentiable(_forward_op, _backward, "GatedActivation")
_gated_activation_bwd = _native.differentiable(_backward_op, _double_backward, "GatedActivationBackward")
