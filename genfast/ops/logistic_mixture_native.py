"""The registered ops of the logistic mixture: tensors' addresses in, kernels of `genfast._C` called.

They take any number of dimensions before the channels, so that vmap adds one. Tensors other than params
and its gradient have the dtype that kernels compute in (`arithmetic`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native


def channels_of_component(colors: int) -> int:
    """Channels of a component."""
    return 3 if colors == 1 else 10


def arithmetic(params: Tensor) -> torch.dtype:
    """The dtype that kernels compute in, and take and give all but params in."""
    return torch.float64 if params.dtype == torch.float64 else torch.float32


def _options(params: Tensor, colors: int, levels: int, flag: bool) -> tuple[int, int, int, int, bool]:
    mixtures = params.shape[-3] // channels_of_component(colors)
    return _native.DTYPES[params.dtype], colors, mixtures, levels, flag


def _pixels(params: Tensor) -> tuple[int, ...]:
    return *params.shape[:-3], *params.shape[-2:]


def _log_prob_fake(params: Tensor, x: Tensor, levels: int, exact: bool) -> tuple[Tensor, Tensor]:
    pixels, dtype = _pixels(params), arithmetic(params)
    evidence = params.new_empty((*pixels[:-2], 3, *pixels[-2:]), dtype=dtype)
    return params.new_empty(pixels, dtype=dtype), evidence


def _log_prob_kernel(
    params: Tensor, x: Tensor, levels: int, exact: bool, kernel: Callable[..., None], *place: int
) -> tuple[Tensor, Tensor]:
    log_prob, evidence = _log_prob_fake(params, x, levels, exact)
    kernel(
        _options(params, x.shape[-3], levels, exact), log_prob.shape,
        params.data_ptr(), params.stride(), x.data_ptr(), x.stride(),
        log_prob.data_ptr(), log_prob.stride(), evidence.data_ptr(), evidence.stride(), *place,
    )  # fmt: skip
    return log_prob, evidence


def _log_prob_cpu(params: Tensor, x: Tensor, levels: int, exact: bool) -> tuple[Tensor, Tensor]:
    kernel = _C.logistic_mixture_log_prob_fwd
    return _log_prob_kernel(params, x, levels, exact, kernel, torch.get_num_threads())


def _log_prob_cuda(params: Tensor, x: Tensor, levels: int, exact: bool) -> tuple[Tensor, Tensor]:
    kernel = _C.logistic_mixture_log_prob_fwd_cuda
    return _log_prob_kernel(params, x, levels, exact, kernel, *_native.device_and_stream(params))


def _gradient_kernel(
    grad: Tensor, evidence: Tensor, params: Tensor, x: Tensor, levels: int, exact: bool,
    kernel: Callable[..., None], *place: int,
) -> Tensor:  # fmt: skip
    grad_params = torch.empty_like(params)
    kernel(
        _options(params, x.shape[-3], levels, exact), _pixels(params),
        params.data_ptr(), params.stride(), x.data_ptr(), x.stride(),
        evidence.data_ptr(), evidence.stride(), grad.data_ptr(), grad.stride(),
        grad_params.data_ptr(), grad_params.stride(), *place,
    )  # fmt: skip
    return grad_params


def _gradient_cpu(
    grad: Tensor, evidence: Tensor, params: Tensor, x: Tensor, levels: int, exact: bool
) -> Tensor:
    kernel, place = _C.logistic_mixture_log_prob_bwd, torch.get_num_threads()
    return _gradient_kernel(grad, evidence, params, x, levels, exact, kernel, place)


def _gradient_cuda(
    grad: Tensor, evidence: Tensor, params: Tensor, x: Tensor, levels: int, exact: bool
) -> Tensor:
    kernel, place = _C.logistic_mixture_log_prob_bwd_cuda, _native.device_and_stream(params)
    return _gradient_kernel(grad, evidence, params, x, levels, exact, kernel, *place)


def _gradient_fake(
    grad: Tensor, evidence: Tensor, params: Tensor, x: Tensor, levels: int, exact: bool
) -> Tensor:
    return torch.empty_like(params)


def _empty_sample(params: Tensor, uniforms: Tensor, levels: int, quantize: bool) -> Tensor:
    dtype = arithmetic(params)
    like = params.narrow(-3, 0, uniforms.shape[-3] - 1)
    if params.is_contiguous():
        return params.new_empty(like.shape, dtype=dtype)
    return torch.empty_like(like, dtype=dtype)  # keeps the order of the strides


def _sample_kernel(
    params: Tensor,
    uniforms: Tensor,
    levels: int,
    quantize: bool,
    kernel: Callable[..., None],
    *place: int,
) -> Tensor:
    x = _empty_sample(params, uniforms, levels, quantize)
    kernel(
        _options(params, x.shape[-3], levels, quantize), _pixels(params),
        params.data_ptr(), params.stride(), uniforms.data_ptr(), uniforms.stride(),
        x.data_ptr(), x.stride(), *place,
    )  # fmt: skip
    return x


def _sample_cpu(params: Tensor, uniforms: Tensor, levels: int, quantize: bool) -> Tensor:
    kernel = _C.logistic_mixture_sample_fwd
    return _sample_kernel(params, uniforms, levels, quantize, kernel, torch.get_num_threads())


def _sample_cuda(params: Tensor, uniforms: Tensor, levels: int, quantize: bool) -> Tensor:
    kernel = _C.logistic_mixture_sample_fwd_cuda
    return _sample_kernel(params, uniforms, levels, quantize, kernel, *_native.device_and_stream(params))


log_prob_op = _native.define(
    "logistic_mixture_log_prob(Tensor params, Tensor x, int levels, bool exact) -> (Tensor, Tensor)",
    cpu=_log_prob_cpu,
    cuda=_log_prob_cuda,
    fake=_log_prob_fake,
)
gradient_op = _native.define(
    "logistic_mixture_log_prob_bwd(Tensor grad, Tensor evidence, Tensor params, Tensor x, int levels, "
    "bool exact) -> Tensor",
    cpu=_gradient_cpu,
    cuda=_gradient_cuda,
    fake=_gradient_fake,
)
sample_op = _native.define(
    "logistic_mixture_sample(Tensor params, Tensor uniforms, int levels, bool quantize) -> Tensor",
    cpu=_sample_cpu,
    cuda=_sample_cuda,
    fake=_empty_sample,
)


def _vmap_rule(op: torch._ops.OpOverload, out_dims: Any = 0) -> Callable[..., tuple[Any, Any]]:
    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        batched = [
            _native.batch_first(a, dim, info.batch_size) if isinstance(a, Tensor) else a
            for a, dim in zip(args, in_dims, strict=True)
        ]
        return op(*batched), out_dims

    return rule


_native.vmap_rule("logistic_mixture_log_prob", _vmap_rule(log_prob_op, (0, 0)))
_native.vmap_rule("logistic_mixture_log_prob_bwd", _vmap_rule(gradient_op))
_native.vmap_rule("logistic_mixture_sample", _vmap_rule(sample_op))
