"""Discriminator rejection sampling of a batch: which samples are accepted, and those moved together."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor

from genfast.ops import _native
from genfast.ops import rejection_native as native

_ELEMENT_SIZES = (1, 2, 4, 8, 16)


@overload
def rejection_accept(
    logits: Tensor,
    uniforms: Tensor | None,
    log_m: float | Tensor,
    *,
    gamma: float = ...,
    eps: float = ...,
    seed: int | None = ...,
    first: int = ...,
    check: bool = ...,
    return_nan_count: Literal[False] = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def rejection_accept(
    logits: Tensor,
    uniforms: Tensor | None,
    log_m: float | Tensor,
    *,
    gamma: float = ...,
    eps: float = ...,
    seed: int | None = ...,
    first: int = ...,
    check: bool = ...,
    return_nan_count: Literal[True],
) -> tuple[Tensor, Tensor, Tensor]: ...
def rejection_accept(
    logits: Tensor,
    uniforms: Tensor | None,
    log_m: float | Tensor,
    *,
    gamma: float = 0.0,
    eps: float = 1e-8,
    seed: int | None = None,
    first: int = 0,
    check: bool = False,
    return_nan_count: bool = False,
) -> tuple[Tensor, ...]:
    """Which samples of a generator discriminator rejection sampling accepts.

    The logit of a discriminator is the logarithm of a density ratio, log p_d / p_g, up to a constant.
    Sample i sees the running maximum r over log_m and logits[:i+1], as if the samples came one after
    another, and is accepted if u_i <= sigmoid(F), where d = logits[i] - r and
    F = d - log(-expm1(d - eps)) - gamma. With gamma = 0, sigmoid(F) is e^d up to eps: exact rejection,
    once the running maximum is the true one.

    Source: Azadi et al., "Discriminator Rejection Sampling" (2018), eq. 8 and algorithm 1. Computed as
    a / (a + q) with a = e^(d - gamma), q = -expm1(d - eps), which is exact to the last bits at d = 0,
    where the printed log(1 - exp(d - eps)) is -inf in fp32.

    Args:
        logits: (B,), any stride; fp32, fp64, bf16 or fp16. Computed in fp32 (fp64 for fp64).
        uniforms: (B,) in (0, 1), of the dtype of `logits` (under torch.autocast of any); or None for
            counter-based ones, see `seed`.
        log_m: the maximum so far, -inf if there is none: a number, or a 0-dim floating tensor on the
            device of `logits` (no synchronisation either way).
        gamma: subtracted from F: larger means fewer samples accepted. Finite.
        eps: finite and at least 0.
        seed: with uniforms=None, uniform i is that of `genfast.sampling.uniforms(seed, (first + i) // 4,
            pixel=0, draws=4)` number (first + i) % 4: the same however a stream of samples is cut into
            batches. Any integer; its low 64 bits count.
        first: the number of the first sample in the stream of `seed`, at least 0.
        check: on CUDA, wait for the result and raise for NaN logits, as always happens on the CPU.
        return_nan_count: also return how many logits are NaN, 0-dim int64.

    Returns:
        accept, (B,) bool, and log_m', 0-dim, the maximum after the batch: fp64 for fp64 logits, else
        fp32. A logit of -inf is never accepted; after one of +inf no finite one is. On CUDA a NaN logit
        is not accepted and does not enter log_m', and a NaN in log_m counts as -inf. Neither result
        carries a gradient.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or dtypes differ.
        ValueError: wrong shapes, devices or numbers; NaN logits or log_m (on CUDA only with `check`).

    >>> import torch, genfast
    >>> logits, uniforms = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.5, 0.5, 0.5])
    >>> accept, log_m = genfast.ops.rejection_accept(logits, uniforms, log_m=1.0)
    >>> accept.tolist(), log_m.item()
    ([True, True, False], 2.0)
    """
    _native.check_tensor("logits", logits, ndim=1)
    dtype = native.arithmetic(logits)
    if uniforms is None:
        if seed is None:
            raise ValueError("uniforms is None, so seed must be given")
        _native.check_int("seed", seed)
        _native.check_int("first", first)
        if first < 0:
            raise ValueError(f"first must be at least 0, got {first}")
    else:
        if seed is not None:
            raise ValueError("seed is for uniforms=None, but uniforms are given; leave one of them out")
        _check_uniforms(uniforms, logits)
        uniforms = uniforms.detach().to(dtype)
    _check_number("gamma", gamma)
    _check_number("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    accept, new_log_m, nan_count = native.accept_op(
        logits.detach(), uniforms, _as_tensor(log_m, logits, dtype),
        gamma, eps, native.signed(seed or 0), first, check,
    )  # fmt: skip
    return (accept, new_log_m, nan_count) if return_nan_count else (accept, new_log_m)


def rejection_compact(samples: Tensor, accept: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the accepted rows of a batch to its front, without waiting for a GPU.

    Args:
        samples: (B, ...) of any dtype and strides, at least one dimension. It gets no gradient.
        accept: (B,) bool, any stride.

    Returns:
        rows, like `samples`: the accepted ones first, in their order; those after them are whatever
        the memory held, like torch.empty's (and zero under torch.use_deterministic_algorithms, unless
        torch.utils.deterministic.fill_uninitialized_memory is off). And how many are accepted, 0-dim
        int64 on the same device.

    Raises:
        TypeError: an argument is no dense tensor, or `accept` is not bool.
        ValueError: wrong shapes; devices differ; `samples` requires a gradient.

    >>> import torch, genfast
    >>> samples, accept = torch.arange(8).view(4, 2), torch.tensor([False, True, False, True])
    >>> rows, count = genfast.ops.rejection_compact(samples, accept)
    >>> rows[:count].tolist()
    [[2, 3], [6, 7]]
    """
    for name, value in (("samples", samples), ("accept", accept)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if value.layout is not torch.strided:
            raise TypeError(f"{name} has layout {value.layout}; only dense tensors are supported")
    if samples.ndim < 1:
        raise ValueError("samples must have at least one dimension, got shape ()")
    if samples.itemsize not in _ELEMENT_SIZES:
        raise TypeError(
            f"samples has dtype {samples.dtype}, whose elements are {samples.itemsize} bytes"
        )
    if accept.dtype != torch.bool:
        raise TypeError(f"accept must be of dtype torch.bool, got {accept.dtype}")
    if accept.shape != samples.shape[:1]:
        raise ValueError(
            f"accept must have shape {tuple(samples.shape[:1])} for samples of shape "
            f"{tuple(samples.shape)}, got {tuple(accept.shape)}"
        )
    if accept.device != samples.device:
        raise ValueError(f"accept is on {accept.device} but samples is on {samples.device}")
    if samples.requires_grad and torch.is_grad_enabled():
        raise ValueError("samples requires a gradient, but none is passed on; pass samples.detach()")
    return native.compact_op(samples.detach(), accept)  # type: ignore[no-any-return]


# ---- arguments -----------------------------------------------------------------------------------


def _check_uniforms(uniforms: Tensor, logits: Tensor) -> None:
    _native.check_tensor("uniforms", uniforms)
    if uniforms.shape != logits.shape:
        raise ValueError(
            f"uniforms of shape {tuple(uniforms.shape)} does not have the shape of logits, "
            f"{tuple(logits.shape)}"
        )
    if not _native.autocast_active(logits):
        _native.check_like("uniforms", uniforms, "logits", logits)
    elif uniforms.device != logits.device:
        raise ValueError(f"uniforms is on {uniforms.device} but logits is on {logits.device}")


def _check_number(name: str, value: float) -> None:
    if not isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not abs(value) < math.inf:  # unlike math.isfinite, for symbols of a compiler too
        raise ValueError(f"{name} must be finite, got {value}")


def _as_tensor(log_m: float | Tensor, logits: Tensor, dtype: torch.dtype) -> Tensor:
    if not isinstance(log_m, Tensor):
        if not isinstance(log_m, (int, float)):
            raise TypeError(f"log_m must be a number or a tensor, got {log_m!r}")
        if log_m != log_m:
            raise ValueError("log_m must be a number or -inf, got nan")
        return torch.full((), log_m, dtype=dtype, device=logits.device)
    _native.check_tensor("log_m", log_m, ndim=0)
    if log_m.device != logits.device:
        raise ValueError(f"log_m is on {log_m.device} but logits is on {logits.device}")
    return log_m.detach().to(dtype)
