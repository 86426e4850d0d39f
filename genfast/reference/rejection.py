"""Discriminator rejection sampling in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def rejection_accept(
    logits: Tensor,
    uniforms: Tensor,
    log_m: float | Tensor,
    *,
    gamma: float = 0.0,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Which elements are accepted, (B,) bool, and the running maximum after them, 0-dim.

    >>> import torch
    >>> from genfast.reference import rejection_accept
    >>> accept, log_m = rejection_accept(torch.tensor([0.0, -3.0]), torch.tensor([0.9, 0.9]), 0.0)
    >>> accept.tolist(), log_m.item()
    ([True, False], 0.0)
    """
    least = -torch.inf
    known = logits.masked_fill(logits.isnan(), least)
    before = torch.as_tensor(log_m, dtype=logits.dtype, device=logits.device).reshape(1)
    running = torch.cat([before, known]).cummax(0).values[1:] if logits.numel() else known
    d = torch.where(known == running, 0, known - running)
    f = d - torch.log(-torch.expm1(d - eps)) - gamma
    accept = (uniforms <= torch.sigmoid(f)) & (known > least) & (d > least)
    return accept, torch.cat([before, known]).amax()


def rejection_compact(samples: Tensor, accept: Tensor) -> tuple[Tensor, Tensor]:
    """The accepted rows, then zeros; how many were accepted, 0-dim int64.

    >>> import torch
    >>> from genfast.reference import rejection_compact
    >>> rows, count = rejection_compact(torch.tensor([5, 6, 7]), torch.tensor([True, False, True]))
    >>> rows[:count].tolist()
    [5, 7]
    """
    rows = torch.zeros_like(samples)
    kept = samples[accept]
    rows[: len(kept)] = kept
    return rows, accept.sum()
