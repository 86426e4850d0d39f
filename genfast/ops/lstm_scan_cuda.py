"""What the CUDA side of the LSTM scans leaves to PyTorch: the gradients of weight and initial states.

The kernels give the gradients of the gates. Those of the parameters are dense products of them, nothing
recurrent: the weight's is one product over all pixels, which follows PyTorch's settings for matrix
products (`torch.backends.cuda.matmul.allow_tf32`).

Maps have one dimension of groups in front, initial states are (group, position, unit).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Codes of csrc/lstm_scan.
ROW, DIAGONAL, DIAGONAL_REVERSED = 0, 1, 2

#: The kernels' plan (0 automatic, 1 an image stays in one block, 2 a launch a line) and product (0
#: automatic, 1 SIMT, 2 tensor cores). Tests force them.
CHOICE = (0, 0)


def arithmetic(gates: Tensor) -> torch.dtype:
    """The dtype that kernels compute in and keep gates and cell states in."""
    return torch.float64 if gates.dtype == torch.float64 else torch.float32


def line(hidden: Tensor, groups: int, row: bool) -> Tensor:
    """Room for the cell states of a line of every image, (group, image, position, unit)."""
    images, units, height, width = hidden.shape[-4:]
    positions = width if row else height
    return hidden.new_empty((groups, images, positions, units), dtype=arithmetic(hidden))


def parameter_gradients(
    grad_gates: Tensor,
    grad_cells: Tensor,
    arguments: Sequence[Tensor | None],
    scan: int,
    wants: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of weight, h0 and c0, as far as they are wanted.

    Args:
        grad_gates: of the gates.
        grad_cells: of the initial cell states, image by image, (group, image, position, unit).
        arguments: gates, weight, h0, c0, hidden.
        scan: ROW, DIAGONAL or DIAGONAL_REVERSED.
        wants: of weight, h0, c0.
    """
    _, weight, h0, c0, hidden = arguments
    assert weight is not None
    assert hidden is not None
    return (
        _grad_weight(grad_gates, hidden, h0, scan) if wants[0] else None,
        _grad_h0(grad_gates, weight, scan) if wants[1] and h0 is not None else None,
        grad_cells.sum(1).to(weight.dtype) if wants[2] and c0 is not None else None,
    )


def _grad_weight(grad_gates: Tensor, hidden: Tensor, h0: Tensor | None, scan: int) -> Tensor:
    """(group, output, unit, tap).

    Summed in up to 16 parts, the same ones every time: a single sum over all pixels would round more.
    """
    groups, images, units, height, _ = hidden.shape
    parts = max(n for n in range(1, 17) if images * height % n == 0)
    read = _sources(hidden, h0, scan).view(groups, parts, -1, _taps(scan) * units)
    da = grad_gates.permute(0, 1, 3, 4, 2).reshape(groups, parts, -1, 4 * units)
    total = (da.transpose(2, 3) @ read).sum(1, dtype=arithmetic(hidden)).to(hidden.dtype)
    return total.view(groups, 4 * units, -1, units).transpose(2, 3)


def _sources(hidden: Tensor, h0: Tensor | None, scan: int) -> Tensor:
    """What every pixel's taps read, (group, image, row, column, tap, unit)."""
    groups, images, units, height, width = hidden.shape
    read = hidden.new_zeros((groups, images, height, width, _taps(scan), units))
    h = hidden.permute(0, 1, 3, 4, 2)
    start = None if h0 is None else h0[:, None]
    if scan == ROW:
        for tap, (here, there) in enumerate(_columns(width)):
            read[:, :, 1:, here, tap] = h[:, :, :-1, there]
            if start is not None:
                read[:, :, 0, here, tap] = start[:, :, there]
        return read
    read[:, :, 1:, :, 0] = h[:, :, :-1]
    later, earlier, edge = slice(1, None), slice(None, -1), 0
    if scan == DIAGONAL_REVERSED:
        later, earlier, edge = earlier, later, -1
    read[:, :, :, later, 1] = h[:, :, :, earlier]
    if start is not None:
        read[:, :, :, edge, 1] = start
    return read


def _grad_h0(grad_gates: Tensor, weight: Tensor, scan: int) -> Tensor:
    """(group, position, unit): the states before the first pixels are read by those alone."""
    if scan == ROW:
        first = grad_gates[:, :, :, 0]
    else:
        first = grad_gates[..., -1 if scan == DIAGONAL_REVERSED else 0]
    dtype = arithmetic(grad_gates)
    edge = first.sum(1, dtype=dtype).transpose(1, 2)  # (group, position, output)
    by_tap = [edge @ weight[..., tap].to(dtype) for tap in range(weight.shape[-1])]
    if scan != ROW:
        return by_tap[1].to(weight.dtype)
    total = torch.zeros_like(by_tap[0])
    for part, (here, there) in zip(by_tap, _columns(edge.shape[1]), strict=True):
        total[:, there] += part[:, here]
    return total.to(weight.dtype)


def _taps(scan: int) -> int:
    return 3 if scan == ROW else 2


def _columns(width: int) -> list[tuple[slice, slice]]:
    """For each tap of a row scan: the columns that read inside the image, and those that they read."""
    return [
        (slice(0, width), slice(0, width)) if shift == 0
        else (slice(1, width), slice(0, width - 1)) if shift < 0
        else (slice(0, width - 1), slice(1, width))
        for shift in (-1, 0, 1)
    ]  # fmt: skip
