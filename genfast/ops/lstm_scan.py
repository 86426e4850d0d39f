"""row_lstm and diagonal_lstm: the recurrences of PixelRNN, from pre-computed input-to-state gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from genfast.ops import _native
from genfast.ops import lstm_scan_native as native
from genfast.reference import lstm_scan as plain

Saved = Literal["minimal", "all"]


def row_lstm(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    saved: Saved = "minimal",
) -> Tensor:
    """The Row LSTM: row after row, each pixel reads three hidden states of the row above.

    a[r,c] = gates[r,c] + sum over t of weight[:,:,t] h[r-1,c+t-1];  i, f, o = sigmoid(a_i, a_f, a_o),
    g = tanh(a_g);  C[r,c] = f C[r-1,c] + i g;  h[r,c] = o tanh(C[r,c]).

    Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.1, equation 3.

    Args:
        gates: (N, 4h, H, W), the input-to-state part with its bias, in order i, f, g, o
            (`genfast.reference.reorder_gates` converts from others); any strides, channels-last is the
            fast path; fp32, fp64, bf16 or fp16.
        weight: (4h, h, 3) over columns c-1, c, c+1 of the row above; columns outside are zero.
        h0, c0: the states of row -1, (h,) or (h, W); zero where not given.
        saved: what is kept for the backward. "minimal": the hidden states, from which the gates are
            computed again by one dense product; "all": also gates and cell states, 5h values of fp32 a
            pixel (fp64 for fp64). The gradients are the same.

    Returns:
        The hidden states (N, h, H, W), of the dtype and memory format of `gates`; under torch.autocast
        all arguments are lowered. Cell states, pre-activations and sums are fp32 for 16 bits.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: wrong shapes or `saved`; devices differ.

    Double backward is right, and runs in plain PyTorch.

    >>> import torch, genfast
    >>> gates, weight = torch.randn(2, 4 * 8, 5, 6), torch.randn(4 * 8, 8, 3)
    >>> genfast.ops.row_lstm(gates, weight).shape
    torch.Size([2, 8, 5, 6])
    """
    return _scan(native.ROW, gates, weight, h0, c0, saved)


def diagonal_lstm(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    reverse: bool = False,
    saved: Saved = "minimal",
) -> Tensor:
    """The Diagonal LSTM: along every row, each pixel also reads the hidden state of the pixel above it.

    a[r,c] = gates[r,c] + weight[:,:,0] h[r-1,c] + weight[:,:,1] h[r,c-1];  i, f, o = sigmoid(a_i, a_f,
    a_o), g = tanh(a_g);  C[r,c] = f C[r,c-1] + i g;  h[r,c] = o tanh(C[r,c]). Pixels of a diagonal are
    computed together, without any skewed copy. `reverse` runs from right to left: c+1 for c-1.

    Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.2.

    Args:
        gates: (N, 4h, H, W), as in `row_lstm`.
        weight: (4h, h, 2): for the pixel above, for the one beside.
        h0, c0: the states before each row's first pixel, (h,) or (H, h); zero where not given. Above the
            first row h is zero.
        reverse: from right to left.
        saved: as in `row_lstm`.

    Returns:
        As in `row_lstm`.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: wrong shapes or `saved`; devices differ.

    Double backward is right, and runs in plain PyTorch.

    >>> import torch, genfast
    >>> gates, weight = torch.randn(2, 4 * 8, 5, 6), torch.randn(4 * 8, 8, 2)
    >>> genfast.ops.diagonal_lstm(gates, weight, h0=torch.zeros(8), reverse=True).shape
    torch.Size([2, 8, 5, 6])
    """
    scan = native.DIAGONAL_REVERSED if reverse else native.DIAGONAL
    return _scan(scan, gates, weight, h0, c0, saved)


def _scan(
    scan: int, gates: Tensor, weight: Tensor, h0: Tensor | None, c0: Tensor | None, saved: Saved
) -> Tensor:
    _native.check_tensor("gates", gates, ndim=4)
    _native.check_tensor("weight", weight, ndim=3)
    channels, taps = gates.shape[1], 3 if scan == native.ROW else 2
    if channels % 4 or not channels:
        raise ValueError(f"gates must have 4h channels, h >= 1, got shape {tuple(gates.shape)}")
    if tuple(weight.shape) != (channels, channels // 4, taps):
        raise ValueError(
            f"weight must be (4h, h, {taps}) = {(channels, channels // 4, taps)} for gates of shape "
            f"{tuple(gates.shape)}, got {tuple(weight.shape)}"
        )
    if saved not in ("minimal", "all"):
        raise ValueError(f'saved must be "minimal" or "all", got {saved!r}')
    for name, state in (("h0", h0), ("c0", c0)):
        if state is not None:
            _check_state(name, state, scan, gates)
    if _native.autocast_active(gates):
        gates, weight = _native.lower_precision(gates), _native.lower_precision(weight)
        h0, c0 = (None if s is None else _native.lower_precision(s) for s in (h0, c0))
    for name, other in (("weight", weight), ("h0", h0), ("c0", c0)):
        if other is not None:
            _native.check_like(name, other, "gates", gates)
    h0, c0 = (None if s is None else _positions(s, scan, gates) for s in (h0, c0))
    return _lstm_scan(gates, weight, h0, c0, scan, saved == "all")  # type: ignore[no-any-return]


def _check_state(name: str, state: Tensor, scan: int, gates: Tensor) -> None:
    _native.check_tensor(name, state)
    hidden, height, width = gates.shape[1] // 4, gates.shape[2], gates.shape[3]
    whole, text = ((hidden, width), "(h, W)") if scan == native.ROW else ((height, hidden), "(H, h)")
    if tuple(state.shape) not in ((hidden,), whole):
        raise ValueError(
            f"{name} must be (h,) or {text}, here {(hidden,)} or {whole}, got {tuple(state.shape)}"
        )


def _positions(state: Tensor, scan: int, gates: Tensor) -> Tensor:
    """A state as (positions, hidden), the form of the registered ops."""
    if state.ndim == 1:
        return state.expand(gates.shape[3 if scan == native.ROW else 2], -1)
    return state.t() if scan == native.ROW else state


# ---- derivatives ---------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool],
    grad: Tensor,
    hidden: Tensor,
    kept_gates: Tensor,
    kept_cells: Tensor,
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    scan: int,
    keep: bool,
) -> tuple[Tensor | None, ...]:
    wants = list(needs[1:4])
    gradients = _gradient(grad, hidden, kept_gates, kept_cells, gates, weight, h0, c0, scan, wants)
    wanted = (g if want else None for g, want in zip(gradients[1:], wants, strict=True))
    return gradients[0], *wanted, None, None


def _double_backward(
    needs: Sequence[bool],
    v_gates: Tensor,
    v_weight: Tensor,
    v_h0: Tensor,
    v_c0: Tensor,
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
) -> tuple[Tensor | None, ...]:
    """Gradients of <v, gradients> in plain PyTorch, differentiable to any order.

    Hidden states and what else was kept are taken for what they are, functions of the arguments, and get
    no gradient of their own.
    """
    dtype = native.arithmetic(gates)
    given = {"gates": gates, "weight": weight, "h0": h0, "c0": c0}
    names = [name for name, value in given.items() if value is not None]
    upstream = dict(zip(given, (v_gates, v_weight, v_h0, v_c0), strict=True))

    def hidden_of(*arguments: Tensor) -> Tensor:
        return _reference(scan)(**dict(zip(names, arguments, strict=True)))

    def gradients(grad: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        return torch.func.vjp(hidden_of, *arguments)[1](grad)  # type: ignore[no-any-return]

    values = [given[name].to(dtype) for name in names]  # type: ignore[union-attr]
    asked = dict(zip(given, (True, *wants), strict=True))
    v = tuple(
        upstream[name].to(dtype) if asked[name] else torch.zeros_like(value)
        for name, value in zip(names, values, strict=True)
    )
    grad_of_grad, *others = torch.func.vjp(gradients, grad.to(dtype), *values)[1](v)
    of = dict(zip(names, others, strict=True))
    results = (None if name not in of else of[name].to(gates.dtype) for name in given)
    return grad_of_grad.to(gates.dtype), None, None, None, *results, None, None


def _reference(scan: int) -> Callable[..., Tensor]:
    """The reference of a scan, with initial states as (positions, hidden)."""
    if scan != native.ROW:
        return partial(plain.diagonal_lstm, reverse=scan == native.DIAGONAL_REVERSED)

    def row(gates: Tensor, weight: Tensor, h0: Tensor | None = None, c0: Tensor | None = None) -> Tensor:
        h0, c0 = (None if s is None else s.t() for s in (h0, c0))
        return plain.row_lstm(gates, weight, h0, c0)

    return row


_lstm_scan = _native.differentiable(native.forward_op, _backward, "LstmScan", keeps=(0, 1, 2))
_gradient = _native.differentiable(native.backward_op, _double_backward, "LstmScanBackward", returns=4)
