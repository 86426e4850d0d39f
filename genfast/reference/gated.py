"""The gate in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def gated_activation(x: Tensor, cond: Tensor | None = None, *, dim: int = 1) -> Tensor:
    """tanh(a) * sigmoid(b), where a, b are the halves of x + cond along `dim`.

    >>> import torch, genfast
    >>> genfast.reference.gated_activation(torch.zeros(2, 4)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    a, b = (x if cond is None else x + cond).chunk(2, dim)
    return torch.tanh(a) * torch.sigmoid(b)
