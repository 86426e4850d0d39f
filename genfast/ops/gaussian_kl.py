"""gaussian_kl: the divergence of diagonal Gaussians, in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native


def gaussian_kl(
    mean: Tensor,
    log_var: Tensor,
    prior_mean: Tensor | None = None,
    prior_log_var: Tensor | None = None,
) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var))) in nats, over the last dimension.

    1/2 sum_d (e^r - 1 - r + (mean - prior_mean)^2 / prior_var) with r = log_var - prior_log_var. The -1,
    which some printed formulas lack, makes it 0 where both are equal.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), appendix B.

    Args:
        mean: (..., D), any strides; fp32, fp64, bf16 or fp16. 16 bits are computed in fp32.
        log_var: logarithms of variances, broadcastable to `mean` and of its dtype (under torch.autocast
            of any), as all that follow.
        prior_mean: 0 where not given.
        prior_log_var: 0 where not given: a standard deviation of 1.

    Returns:
        (...), of the dtype of `mean`; under torch.autocast fp32 where that has 16 bits.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: `mean` has no dimensions, another argument does not broadcast to it, or the devices
            differ.

    Double backward is right, and runs in plain PyTorch.

    >>> import torch, genfast
    >>> genfast.ops.gaussian_kl(torch.ones(2, 4), torch.zeros(2, 4))
    tensor([2., 2.])
    """
    _native.check_tensor("mean", mean)
    if mean.ndim == 0:
        raise ValueError("mean must have at least 1 dimension, over which KL is summed; got shape ()")
    if prior_mean is None and prior_log_var is not None:
        prior_mean = mean.new_zeros(())
    if prior_log_var is None and prior_mean is not None:
        prior_log_var = mean.new_zeros(())
    others = {"log_var": log_var, "prior_mean": prior_mean, "prior_log_var": prior_log_var}
    wide = _native.autocast_active(mean) and mean.dtype != torch.float64
    arguments = [mean.float() if wide else mean]
    for name, value in others.items():
        if value is None:
            continue
        _native.check_tensor(name, value)
        value = value.float() if wide and value.dtype != torch.float64 else value
        _native.check_like(name, value, "mean", arguments[0])
        arguments.append(_expanded(name, value, mean))
    return _kl(*arguments, *[None] * (4 - len(arguments)))  # type: ignore[no-any-return]


def _expanded(name: str, value: Tensor, mean: Tensor) -> Tensor:
    missing = mean.ndim - value.ndim
    sizes = zip(mean.shape[max(missing, 0) :], value.shape, strict=False)
    if missing < 0 or any(own not in (1, n) for n, own in sizes):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not broadcast to mean, {tuple(mean.shape)}"
        )
    return value.expand(mean.shape)


# ---- kernels -------------------------------------------------------------------------------------

Prior = Tensor | None


def _operands(*tensors: Tensor | None) -> list[tuple[int, Sequence[int]]]:
    return [(t.data_ptr(), t.stride()) for t in tensors if t is not None]


def _forward_kernel(
    kernel: Callable[..., None], place: tuple[int, ...], *inputs: Tensor | None
) -> Tensor:
    mean = inputs[0]
    assert mean is not None
    y = mean.new_empty(mean.shape[:-1])
    kernel(_native.DTYPES[mean.dtype], mean.shape, _operands(*inputs, y), *place)
    return y


def _forward_cpu(mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior) -> Tensor:
    place = (torch.get_num_threads(),)
    return _forward_kernel(_C.gaussian_kl_fwd, place, mean, log_var, prior_mean, prior_log_var)


def _forward_cuda(mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior) -> Tensor:
    place = _native.device_and_stream(mean)
    return _forward_kernel(_C.gaussian_kl_fwd_cuda, place, mean, log_var, prior_mean, prior_log_var)


def _forward_fake(mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior) -> Tensor:
    return mean.new_empty(mean.shape[:-1])


def _gradient_fake(
    grad: Tensor, mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior
) -> tuple[Tensor, Tensor, Tensor]:
    """Of mean, log_var and prior_log_var; the last is empty for the standard prior."""
    shape = mean.shape if prior_log_var is not None else (*mean.shape[:-1], 0)
    return mean.new_empty(mean.shape), mean.new_empty(mean.shape), mean.new_empty(shape)


def _gradient_kernel(
    kernel: Callable[..., None], place: tuple[int, ...], grad: Tensor, *inputs: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    mean, log_var, prior_mean, prior_log_var = inputs
    assert mean is not None
    assert log_var is not None
    results = _gradient_fake(grad, mean, log_var, prior_mean, prior_log_var)
    written = results if prior_log_var is not None else results[:2]
    operands = _operands(*inputs, grad[..., None].expand(mean.shape), *written)
    kernel(_native.DTYPES[mean.dtype], mean.shape, operands, *place)
    return results


def _gradient_cpu(
    grad: Tensor, mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior
) -> tuple[Tensor, Tensor, Tensor]:
    kernel, place = _C.gaussian_kl_bwd, (torch.get_num_threads(),)
    return _gradient_kernel(kernel, place, grad, mean, log_var, prior_mean, prior_log_var)


def _gradient_cuda(
    grad: Tensor, mean: Tensor, log_var: Tensor, prior_mean: Prior, prior_log_var: Prior
) -> tuple[Tensor, Tensor, Tensor]:
    kernel, place = _C.gaussian_kl_bwd_cuda, _native.device_and_stream(mean)
    return _gradient_kernel(kernel, place, grad, mean, log_var, prior_mean, prior_log_var)


_forward_op = _native.define(
    "gaussian_kl(Tensor mean, Tensor log_var, Tensor? prior_mean, Tensor? prior_log_var) -> Tensor",
    cpu=_forward_cpu,
    cuda=_forward_cuda,
    fake=_forward_fake,
)
_gradient_op = _native.define(
    "gaussian_kl_bwd(Tensor grad, Tensor mean, Tensor log_var, Tensor? prior_mean, "
    "Tensor? prior_log_var) -> (Tensor, Tensor, Tensor)",
    cpu=_gradient_cpu,
    cuda=_gradient_cuda,
    fake=_gradient_fake,
)


def _batched(info: Any, in_dims: Sequence[int | None], args: Sequence[Any]) -> list[Any]:
    return [
        _native.batch_first(a, dim, info.batch_size) if isinstance(a, Tensor) else a
        for a, dim in zip(args, in_dims, strict=True)
    ]


def _vmap_forward(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    return _forward_op(*_batched(info, in_dims, args)), 0


def _vmap_gradient(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
    return _gradient_op(*_batched(info, in_dims, args)), (0, 0, 0)


_native.vmap_rule("gaussian_kl", _vmap_forward)
_native.vmap_rule("gaussian_kl_bwd", _vmap_gradient)


# ---- derivatives ---------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool],
    grad: Tensor,
    mean: Tensor,
    log_var: Tensor,
    prior_mean: Prior,
    prior_log_var: Prior,
) -> tuple[Tensor | None, ...]:
    of_mean, of_log_var, of_prior = _gradient(grad, mean, log_var, prior_mean, prior_log_var)
    if prior_log_var is None:
        return of_mean, of_log_var, None, None
    return of_mean, of_log_var, -of_mean, of_prior


def _plain_gradients(grad: Tensor, mean: Tensor, log_var: Tensor, *prior: Tensor) -> tuple[Tensor, ...]:
    """Those of mean, log_var and, with a prior, prior_log_var."""
    half = 0.5 * grad[..., None]
    if not prior:
        return 2 * half * mean, half * torch.expm1(log_var)
    distance, precision = mean - prior[0], torch.exp(-prior[1])
    growth = torch.expm1(log_var - prior[1])
    of_prior = -half * (growth + distance.square() * precision)
    return 2 * half * distance * precision, half * growth, of_prior


def _double_backward(
    needs: Sequence[bool], of_mean: Tensor, of_log_var: Tensor, of_prior: Tensor, *inputs: Tensor | None
) -> tuple[Tensor | None, ...]:
    """In plain PyTorch, differentiable to any order."""
    given = [t for t in inputs if t is not None]
    dtype = torch.promote_types(given[0].dtype, torch.float32)
    cotangents = (of_mean, of_log_var, of_prior) if len(given) == 5 else (of_mean, of_log_var)
    pull_back = torch.func.vjp(_plain_gradients, *(t.to(dtype) for t in given))[1]
    gradients = pull_back(tuple(t.to(dtype) for t in cotangents))
    gradients = [g.to(t.dtype) for g, t in zip(gradients, given, strict=True)]
    return *gradients, *[None] * (5 - len(given))


_kl = _native.differentiable(_forward_op, _backward, "GaussianKl")
_gradient = _native.differentiable(_gradient_op, _double_backward, "GaussianKlBackward", returns=3)
