"""The scans of PixelRNN in plain PyTorch: an LSTM over the pixels of an image.

Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm_cell(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and the cell state after pre-activations `a` of i, f, g, o along dimension 1.

    >>> import torch
    >>> from genfast.reference.lstm_scan import lstm_cell
    >>> lstm_cell(torch.zeros(1, 4), torch.ones(1, 1))[1].item()
    0.5
    """
    i, f, g, o = a.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _initial(state: Tensor | None, gates: Tensor, positions: int) -> Tensor:
    """(N, h, positions) of a state that is absent, (h,) or (h, positions)."""
    n, hidden = gates.shape[0], gates.shape[1] // 4
    if state is None:
        return gates.new_zeros(n, hidden, positions)
    return (state[:, None] if state.ndim == 1 else state).expand(n, hidden, positions)


def row_lstm(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    saved: str = "minimal",
) -> Tensor:
    """Row after row; a pixel reads h of three pixels in the row above. `saved` changes nothing here.

    >>> import torch, genfast
    >>> gates, weight = torch.zeros(1, 4, 2, 2), torch.zeros(4, 1, 3)
    >>> h = genfast.reference.row_lstm(gates, weight, c0=torch.ones(1))
    >>> round(h[0, 0, 1, 0].item(), 5)  # two steps down: 0.5 tanh(0.25)
    0.12246
    """
    width = gates.shape[3]
    h, c = _initial(h0, gates, width), _initial(c0, gates, width)
    rows = []
    for z in gates.unbind(2):
        above = torch.nn.functional.pad(h, (1, 1))
        taps = [weight[..., t] @ above[..., t : t + width] for t in range(3)]
        h, c = lstm_cell(z + sum(taps), c)
        rows.append(h)
    return torch.stack(rows, 2)


def diagonal_lstm(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    reverse: bool = False,
    saved: str = "minimal",
) -> Tensor:
    """Along each row, from left to right or reversed; a pixel also reads h of the one above it.

    >>> import torch, genfast
    >>> gates, weight = torch.zeros(1, 4, 2, 2), torch.zeros(4, 1, 2)
    >>> h = genfast.reference.diagonal_lstm(gates, weight, c0=torch.ones(1))
    >>> round(h[0, 0, 0, 1].item(), 5)  # two steps to the right: 0.5 tanh(0.25)
    0.12246
    """
    if reverse:
        return diagonal_lstm(gates.flip(3), weight, h0, c0).flip(3)
    n, channels, height, width = gates.shape
    left, cells = (_initial(s if s is None or s.ndim == 1 else s.t(), gates, height) for s in (h0, c0))
    above = gates.new_zeros(n, channels // 4, width)
    rows = []
    for r in range(height):
        z = gates[:, :, r] + weight[..., 0] @ above
        h, c = left[..., r], cells[..., r]
        row = []
        for column in z.unbind(2):
            h, c = lstm_cell(column + h @ weight[..., 1].t(), c)
            row.append(h)
        above = torch.stack(row, 2)
        rows.append(above)
    return torch.stack(rows, 2)


def reorder_gates(tensor: Tensor, order: str, dim: int = 0) -> Tensor:
    """A weight, a bias or a map whose gates stand in another order along `dim`, as i, f, g, o.

    `order` names them as they stand, e.g. "ofig"; the PixelRNN of igul222 has o, f, i, g, TensorFlow's
    LSTM i, g, f, o (its "j" is g).

    >>> import torch, genfast
    >>> genfast.reference.reorder_gates(torch.tensor([3, 1, 0, 2]), "ofig").tolist()
    [0, 1, 2, 3]
    """
    if sorted(order) != sorted("ifgo"):
        raise ValueError(f"order must name i, f, g and o once each, got {order!r}")
    parts = tensor.chunk(4, dim)
    return torch.cat([parts[order.index(gate)] for gate in "ifgo"], dim)
