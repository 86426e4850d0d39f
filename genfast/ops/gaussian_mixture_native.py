"""The registered ops of the Gaussian mixture: tensors' addresses in, kernels of `genfast._C` called.

log_var is (D,) or (N, D) here. The log-density, the evidence (2, B) kept for backward, their gradient
and that of a log_var (D,) have the dtype that kernels compute in (`arithmetic`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native
from genfast.ops import gaussian_mixture_cuda as on_cuda

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def arithmetic(x: Tensor) -> torch.dtype:
    """The dtype that kernels compute in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _options(z: Tensor, means: Tensor, log_var: Tensor) -> tuple[int, int, int, int, bool]:
    return _native.DTYPES[z.dtype], z.shape[0], means.shape[0], z.shape[1], log_var.ndim == 2


def _operand(t: Tensor | None) -> tuple[int, Sequence[int]]:
    return (0, ()) if t is None else (t.data_ptr(), t.stride())


def _inputs(
    z: Tensor, means: Tensor, log_var: Tensor, *others: Tensor | None
) -> tuple[tuple[int, Sequence[int]], ...]:
    """A shared log_var is given as N equal rows."""
    of_components = log_var if log_var.ndim == 2 else log_var[None].expand(max(len(means), 1), -1)
    return tuple(_operand(t) for t in (z, means, of_components, *others))


class _Workspace:
    """Allocates what a kernel asks for, and keeps it until the kernel is done."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.memory: Tensor | None = None

    def __call__(self, size: int) -> int:
        self.memory = self.like.new_empty(size, dtype=torch.uint8)
        return self.memory.data_ptr()


def _fake(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    dtype = arithmetic(z)
    return z.new_empty(z.shape[0], dtype=dtype), z.new_empty((2, z.shape[0]), dtype=dtype)


def _cpu(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    others = log_weights, query_ids, component_ids
    log_prob, evidence = _fake(z, means, log_var, *others, tf32)
    _C.gaussian_mixture_log_prob_fwd(
        _options(z, means, log_var), _inputs(z, means, log_var, *others),
        log_prob.data_ptr(), evidence.data_ptr(), _Workspace(z), torch.get_num_threads(),
    )  # fmt: skip
    return log_prob, evidence


def _gradient_fake(
    grad: Tensor,
    evidence: Tensor,
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
    wanted: Sequence[bool],
) -> Gradients:
    """Of z, means, log_var and log_weights; empty where not wanted."""
    log_var_dtype = log_var.dtype if log_var.ndim == 2 else arithmetic(z)
    likes = (z, z.dtype), (means, z.dtype), (log_var, log_var_dtype), (log_weights, z.dtype)
    made = [
        z.new_empty(like.shape if want and like is not None else (0,), dtype=dtype)
        for (like, dtype), want in zip(likes, wanted, strict=True)
    ]
    return made[0], made[1], made[2], made[3]


def _gradient_cpu(
    grad: Tensor,
    evidence: Tensor,
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
    wanted: Sequence[bool],
) -> Gradients:
    others = log_weights, query_ids, component_ids
    gradients = _gradient_fake(grad, evidence, z, means, log_var, *others, tf32, wanted)
    addresses = tuple(g.data_ptr() if want else 0 for g, want in zip(gradients, wanted, strict=True))
    _C.gaussian_mixture_log_prob_bwd(
        _options(z, means, log_var), _inputs(z, means, log_var, *others),
        evidence.contiguous().data_ptr(), _operand(grad), addresses, _Workspace(z),
        torch.get_num_threads(),
    )  # fmt: skip
    return gradients


_INPUTS = (
    "Tensor z, Tensor means, Tensor log_var, Tensor? log_weights, Tensor? query_ids, "
    "Tensor? component_ids, bool tf32"
)
log_prob_op = _native.define(
    f"gaussian_mixture_log_prob({_INPUTS}) -> (Tensor, Tensor)",
    cpu=_cpu,
    cuda=on_cuda.log_prob,
    fake=_fake,
)
gradient_op = _native.define(
    f"gaussian_mixture_log_prob_bwd(Tensor grad, Tensor evidence, {_INPUTS}, bool[] wanted) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_gradient_cpu,
    cuda=on_cuda.gradient,
    fake=_gradient_fake,
)


def _vmap_rule(op: torch._ops.OpOverload, outputs: int) -> Callable[..., tuple[Any, Any]]:
    """A mixture fills the machine by itself: those of a batch come one after the other."""

    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        each = [
            op(*(
                a.select(dim, i) if isinstance(a, Tensor) and dim is not None else a
                for a, dim in zip(args, in_dims, strict=True)
            ))
            for i in range(info.batch_size)
        ]  # fmt: skip
        return tuple(torch.stack(results) for results in zip(*each, strict=True)), (0,) * outputs

    return rule


_native.vmap_rule("gaussian_mixture_log_prob", _vmap_rule(log_prob_op, 2))
_native.vmap_rule("gaussian_mixture_log_prob_bwd", _vmap_rule(gradient_op, 4))
