"""The registered ops of rejection sampling: tensors' addresses in, kernels of `genfast._C` called."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native


def arithmetic(logits: Tensor) -> torch.dtype:
    """The dtype that kernels compute in, and take and give all but logits in."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def signed(seed: int) -> int:
    """The low 64 bits as torch's schema has them."""
    return (seed + 2**63) % 2**64 - 2**63


def _accept_fake(
    logits: Tensor,
    uniforms: Tensor | None,
    log_m: Tensor,
    gamma: float,
    eps: float,
    seed: int,
    first: int,
    check: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        logits.new_empty(logits.shape, dtype=torch.bool),
        torch.empty_like(log_m),
        logits.new_zeros((), dtype=torch.int64),  # blocks on CUDA add to it
    )


def _accept_kernel(
    kernel: Callable[..., None], place: tuple[int, ...], arguments: tuple[Any, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    logits, uniforms, log_m, gamma, eps, seed, first, _ = arguments
    accept, new_log_m, nan_count = _accept_fake(*arguments)
    kernel(
        _native.DTYPES[logits.dtype], logits.shape[0], logits.data_ptr(), logits.stride(0),
        0 if uniforms is None else uniforms.data_ptr(), 0 if uniforms is None else uniforms.stride(0),
        log_m.data_ptr(), seed, first, gamma, eps,
        accept.data_ptr(), new_log_m.data_ptr(), nan_count.data_ptr(), *place,
    )  # fmt: skip
    return accept, new_log_m, nan_count


def _accept_cpu(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    results = _accept_kernel(_C.rejection_accept_fwd, (torch.get_num_threads(),), arguments)
    _raise_for_nan(arguments[0], arguments[2], results[2])
    return results


def _accept_cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    logits, _, log_m, *_, check = arguments
    size = _C.rejection_accept_workspace_cuda(_native.DTYPES[logits.dtype], logits.shape[0])
    workspace = _workspace(logits, size)
    place = workspace.data_ptr(), *_native.device_and_stream(logits)
    results = _accept_kernel(_C.rejection_accept_fwd_cuda, place, arguments)
    if check:
        _raise_for_nan(logits, log_m, results[2])
    return results


def _raise_for_nan(logits: Tensor, log_m: Tensor, nan_count: Tensor) -> None:
    if math.isnan(log_m.item()):
        raise ValueError("log_m must be a number or -inf, got nan")
    count = int(nan_count.item())
    if count:
        where = int(logits.isnan().nonzero()[0])
        raise ValueError(f"logits must not be NaN, but {count} of them are, the first at index {where}")


def _compact_fake(samples: Tensor, accept: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(samples), samples.new_empty((), dtype=torch.int64)


def _compact_kernel(
    kernel: Callable[..., None], place: tuple[int, ...], samples: Tensor, accept: Tensor
) -> tuple[Tensor, Tensor]:
    rows, count = _compact_fake(samples, accept)
    kernel(
        samples.shape, samples.itemsize, accept.data_ptr(), accept.stride(0),
        samples.data_ptr(), samples.stride(), rows.data_ptr(), rows.stride(), count.data_ptr(),
        _uninitialised_memory_is_filled(), *place,
    )  # fmt: skip
    return rows, count


def _uninitialised_memory_is_filled() -> bool:
    """Whether torch.empty may give no memory as it is: torch's rule for deterministic results."""
    return (
        torch.are_deterministic_algorithms_enabled()
        and torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    )


def _compact_cpu(samples: Tensor, accept: Tensor) -> tuple[Tensor, Tensor]:
    place = (torch.get_num_threads(),)
    return _compact_kernel(_C.rejection_compact_fwd, place, samples, accept)


def _compact_cuda(samples: Tensor, accept: Tensor) -> tuple[Tensor, Tensor]:
    row_bytes = math.prod(samples.shape[1:]) * samples.itemsize
    size = _C.rejection_compact_workspace_cuda(samples.shape[0], row_bytes)
    workspace = _workspace(samples, size)
    place = workspace.data_ptr(), *_native.device_and_stream(samples)
    return _compact_kernel(_C.rejection_compact_fwd_cuda, place, samples, accept)


def _workspace(like: Tensor, size: int) -> Tensor:
    """Zeroed memory in which the blocks of a scan on CUDA tell each other what they have."""
    return like.new_zeros(size, dtype=torch.uint8)


accept_op = _native.define(
    "rejection_accept(Tensor logits, Tensor? uniforms, Tensor log_m, float gamma, float eps, int seed, "
    "SymInt first, bool check) -> (Tensor, Tensor, Tensor)",
    cpu=_accept_cpu,
    cuda=_accept_cuda,
    fake=_accept_fake,
)
compact_op = _native.define(
    "rejection_compact(Tensor samples, Tensor accept) -> (Tensor, Tensor)",
    cpu=_compact_cpu,
    cuda=_compact_cuda,
    fake=_compact_fake,
)


def _loop(op: torch._ops.OpOverload) -> Callable[..., tuple[Any, Any]]:
    """The batching rule: one call a sample."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        batched = [
            _native.batch_first(a, dim, info.batch_size) if isinstance(a, Tensor) else a
            for a, dim in zip(args, in_dims, strict=True)
        ]
        calls = [
            op(*(a[i] if isinstance(a, Tensor) else a for a in batched)) for i in range(info.batch_size)
        ]
        results = tuple(torch.stack(result) for result in zip(*calls, strict=True))
        return results, (0,) * len(results)

    return rule


_native.vmap_rule("rejection_accept", _loop(accept_op))
_native.vmap_rule("rejection_compact", _loop(compact_op))
