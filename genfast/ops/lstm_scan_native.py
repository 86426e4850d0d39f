"""The registered ops of the LSTM scans: tensors' addresses in, kernels of `genfast._C` called.

Beyond the dimensions of the public functions their tensors may have the same ones in front, all of them:
vmap adds one. Initial states are (positions, hidden) here, a position being a column (row scan) or a row
(diagonal scan). Outputs that are not wanted have no elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native, lstm_scan_cuda
from genfast.ops.lstm_scan_cuda import DIAGONAL as DIAGONAL
from genfast.ops.lstm_scan_cuda import DIAGONAL_REVERSED as DIAGONAL_REVERSED
from genfast.ops.lstm_scan_cuda import ROW as ROW
from genfast.ops.lstm_scan_cuda import arithmetic as arithmetic

_NONE = (0, ())


def _grouped(tensor: Tensor, ndim: int) -> Tensor:
    """A tensor whose last `ndim` dimensions are its own, with one dimension in front of them."""
    front = tensor.shape[: tensor.ndim - ndim]
    return tensor.reshape(math.prod(front), *tensor.shape[tensor.ndim - ndim :])


def _arguments(
    gates: Tensor, weight: Tensor, h0: Tensor | None, c0: Tensor | None
) -> list[Tensor | None]:
    pairs = ((gates, 4), (weight, 3), (h0, 2), (c0, 2))
    return [None if t is None else _grouped(t, ndim) for t, ndim in pairs]


def _operand(tensor: Tensor | None) -> tuple[int, Sequence[int]]:
    return _NONE if tensor is None or not tensor.numel() else (tensor.data_ptr(), tensor.stride())


def _options(gates: Tensor, scan: int) -> tuple[int, ...]:
    groups, images, channels, height, width = gates.shape
    return _native.DTYPES[gates.dtype], scan, groups, images, channels // 4, height, width


# ---- forward -------------------------------------------------------------------------------------


def _forward_fake(
    gates: Tensor, weight: Tensor, h0: Tensor | None, c0: Tensor | None, scan: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    *front, images, channels, height, width = gates.shape
    if gates.is_contiguous():
        hidden = gates.new_empty((*front, images, channels // 4, height, width))
    else:
        hidden = torch.empty_like(gates.narrow(-3, 0, channels // 4))  # keeps the order of the strides
    kept = (images, height, width) if keep else (0,)
    dtype = arithmetic(gates)
    return (
        hidden,
        gates.new_empty((*front, *kept, channels), dtype=dtype),
        gates.new_empty((*front, *kept, channels // 4), dtype=dtype),
    )


# What runs a forward pass: options; addresses and strides of gates, weight, h0, c0 and hidden states;
# addresses of what is kept; the hidden states.
_Forward = Callable[[tuple[int, ...], tuple[Any, ...], tuple[int, ...], Tensor], None]


def _forward(
    run: _Forward,
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    scan: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, kept_gates, kept_cells = _forward_fake(gates, weight, h0, c0, scan, keep)
    if hidden.numel():
        options = _options(_grouped(gates, 4), scan)
        into = hidden.view(options[2], *hidden.shape[-4:])  # fresh, so its front dimensions lie in order
        operands = tuple(_operand(t) for t in (*_arguments(gates, weight, h0, c0), into))
        run(options, operands, (_operand(kept_gates)[0], _operand(kept_cells)[0]), hidden)
    return hidden, kept_gates, kept_cells


def _workspace(like: Tensor, elements: int) -> Tensor:
    return like.new_empty(elements, dtype=arithmetic(like))


def _forward_cpu(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    threads = torch.get_num_threads()

    def run(
        options: tuple[int, ...], operands: tuple[Any, ...], kept: tuple[int, ...], hidden: Tensor
    ) -> None:
        workspace = _workspace(hidden, _C.lstm_scan_workspace(options, False, threads))
        _C.lstm_scan_fwd(options, operands, kept, workspace.data_ptr(), threads)

    return _forward(run, *args)


def _forward_cuda(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    def run(
        options: tuple[int, ...], operands: tuple[Any, ...], kept: tuple[int, ...], hidden: Tensor
    ) -> None:
        line = lstm_scan_cuda.line(hidden, options[2], options[1] == ROW)
        workspace = _workspace(hidden, _C.lstm_scan_workspace_cuda(options))
        _C.lstm_scan_fwd_cuda(
            options, operands, kept, line.data_ptr(), workspace.data_ptr(),
            lstm_scan_cuda.CHOICE, *_native.device_and_stream(hidden),
        )  # fmt: skip

    return _forward(run, *args)


# ---- backward ------------------------------------------------------------------------------------


def _backward_fake(
    grad: Tensor,
    hidden: Tensor,
    kept_gates: Tensor,
    kept_cells: Tensor,
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    scan: int,
    wants: Sequence[bool],
) -> tuple[Tensor, ...]:
    front = gates.shape[:-4]
    return (
        torch.empty_like(gates),
        *(
            like.new_empty(like.shape if wanted else (*front, 0)) if like is not None
            else gates.new_empty((*front, 0))
            for like, wanted in zip((weight, h0, c0), wants, strict=True)
        ),
    )  # fmt: skip


def _backward_cpu(
    grad: Tensor,
    hidden: Tensor,
    kept_gates: Tensor,
    kept_cells: Tensor,
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    scan: int,
    wants: Sequence[bool],
) -> tuple[Tensor, ...]:
    gradients = _backward_fake(grad, hidden, kept_gates, kept_cells, gates, weight, h0, c0, scan, wants)
    if not gates.numel():
        return tuple(g.zero_() for g in gradients)
    options, threads = _options(_grouped(gates, 4), scan), torch.get_num_threads()
    given = (*_arguments(gates, weight, h0, c0), _grouped(hidden, 4))
    above, kept = _grouped(grad, 4), (kept_gates.contiguous(), kept_cells.contiguous())
    into = [
        g.view(options[2], *g.shape[g.ndim - ndim :]) if g.numel() else None
        for g, ndim in zip(gradients, (4, 3, 2, 2), strict=True)
    ]
    workspace = _workspace(gates, _C.lstm_scan_workspace(options, True, threads))
    _C.lstm_scan_bwd(
        options, tuple(_operand(t) for t in given), tuple(_operand(t) for t in (above, *into)),
        tuple(_operand(t)[0] for t in kept), workspace.data_ptr(), threads,
    )  # fmt: skip
    return gradients


def _backward_cuda(
    grad: Tensor,
    hidden: Tensor,
    kept_gates: Tensor,
    kept_cells: Tensor,
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    scan: int,
    wants: Sequence[bool],
) -> tuple[Tensor, ...]:
    gradients = _backward_fake(grad, hidden, kept_gates, kept_cells, gates, weight, h0, c0, scan, wants)
    if not gates.numel():
        return tuple(g.zero_() for g in gradients)
    options = _options(_grouped(gates, 4), scan)
    given = (*_arguments(gates, weight, h0, c0), _grouped(hidden, 4))
    recompute = not kept_gates.numel()
    if recompute:
        kept_gates = torch.empty(gates.shape, dtype=arithmetic(gates), device=gates.device)
        kept_cells = torch.empty(hidden.shape, dtype=arithmetic(gates), device=gates.device)
    kept = kept_gates.contiguous(), kept_cells.contiguous()
    grad_gates = gradients[0].view(options[2], *gates.shape[-4:])
    line = lstm_scan_cuda.line(hidden, options[2], scan == ROW)
    workspace = _workspace(gates, _C.lstm_scan_workspace_cuda(options))
    _C.lstm_scan_bwd_cuda(
        options, tuple(_operand(t) for t in given), (_operand(_grouped(grad, 4)), _operand(grad_gates)),
        tuple(t.data_ptr() for t in kept), recompute, line.data_ptr(), workspace.data_ptr(),
        lstm_scan_cuda.CHOICE, *_native.device_and_stream(gates),
    )  # fmt: skip
    others = lstm_scan_cuda.parameter_gradients(grad_gates, line, given, scan, wants)
    for gradient, value in zip(gradients[1:], others, strict=True):
        if value is not None:
            gradient.copy_(value.view_as(gradient))
    return gradients


# ---- registration --------------------------------------------------------------------------------

forward_op = _native.define(
    "lstm_scan(Tensor gates, Tensor weight, Tensor? h0, Tensor? c0, int scan, bool keep) -> "
    "(Tensor, Tensor, Tensor)",
    cpu=_forward_cpu,
    cuda=_forward_cuda,
    fake=_forward_fake,
)
backward_op = _native.define(
    "lstm_scan_bwd(Tensor grad, Tensor hidden, Tensor kept_gates, Tensor kept_cells, Tensor gates, "
    "Tensor weight, Tensor? h0, Tensor? c0, int scan, bool[] wants) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_backward_cpu,
    cuda=_backward_cuda,
    fake=_backward_fake,
)


def _vmap_rule(op: torch._ops.OpOverload) -> Callable[..., tuple[Any, Any]]:
    """Every tensor gets the batch in front; a weight of its own for every entry."""

    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        batched = [
            _native.batch_first(a, dim, info.batch_size) if isinstance(a, Tensor) else a
            for a, dim in zip(args, in_dims, strict=True)
        ]
        return op(*batched), (0,) * len(op._schema.returns)

    return rule


_native.vmap_rule("lstm_scan", _vmap_rule(forward_op))
_native.vmap_rule("lstm_scan_bwd", _vmap_rule(backward_op))
