"""The log-density of a Gaussian mixture whose components are split over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from genfast.ops.gaussian_mixture import Precision, gaussian_mixture_log_prob
from genfast.ops.gaussian_mixture_cuda import left as components_left


def sharded_gaussian_mixture_log_prob(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    *,
    log_weights: Tensor | None = None,
    query_ids: Tensor | None = None,
    component_ids: Tensor | None = None,
    precision: Precision = "fp32",
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`gaussian_mixture_log_prob` of all components of a group, of which each process holds some.

    Every process calls it with the same queries, and goes on to compute the same loss from what it
    returns. Forward exchanges two floats a query and process; backward adds up the gradients of z and of
    a shared log_var, which then are the same everywhere, while those of a process's own components need
    nothing from the others.

    Args:
        z: (B, D), the same in every process; so are `query_ids`, and `log_var` unless it is (N, D).
        means: (N, D), the components of this process; N may differ, and may be 0.
        log_var: a scalar, (D,), or (N, D) of this process's components.
        log_weights: (N,) of this process's components, in every process or in none.
        query_ids: (B,) integers.
        component_ids: (N,) integers of this process's components.
        precision: as of `gaussian_mixture_log_prob`.
        group: the processes; the default group where not given.

    Returns:
        (B,), the same in every process.

    Raises:
        RuntimeError: torch.distributed is not initialised; or a second derivative is asked for.
        TypeError, ValueError: as of `gaussian_mixture_log_prob`.

    >>> import torch, torch.distributed as dist
    >>> from genfast.ops.gaussian_mixture_sharded import sharded_gaussian_mixture_log_prob
    >>> store = dist.HashStore()
    >>> dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    >>> sharded_gaussian_mixture_log_prob(torch.zeros(1, 2), torch.zeros(3, 2), torch.zeros(()))
    tensor([-1.8379])
    >>> dist.destroy_process_group()
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "torch.distributed is not initialised; call init_process_group first, or use "
            "gaussian_mixture_log_prob"
        )
    z = _Replicated.apply(z, group)
    if log_var.ndim < 2:
        log_var = _Replicated.apply(log_var, group)
    uniform = log_weights is None
    local = gaussian_mixture_log_prob(
        z, means, log_var,
        log_weights=means.new_zeros(means.shape[0]) if uniform else log_weights,
        query_ids=query_ids, component_ids=component_ids, precision=precision,
    )  # fmt: skip
    left = components_left(z, means, query_ids, component_ids).to(local.dtype)
    merged: Tensor = _Merged.apply(local, left, uniform, group)
    return merged


class _Replicated(torch.autograd.Function):
    """The tensor itself, which every process holds: its gradient is the sum of all of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _Merged(torch.autograd.Function):
    """The log of the processes' densities summed and, if uniform, divided by the components left."""

    @staticmethod
    def forward(
        ctx: Any, local: Tensor, left: Tensor, uniform: bool, group: dist.ProcessGroup | None
    ) -> Tensor:
        pair = torch.stack([local, left])
        pairs = [torch.empty_like(pair) for _ in range(dist.get_world_size(group))]
        dist.all_gather(pairs, pair, group=group)
        every = torch.stack(pairs)
        total = torch.logsumexp(every[:, 0], 0)
        ctx.save_for_backward(local, total)
        return total - torch.log(every[:, 1].sum(0).clamp(min=1)) if uniform else total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        local, total = ctx.saved_tensors
        share = torch.where(total == -torch.inf, 0.0, torch.exp(local - total))
        return grad * share, None, None, None
