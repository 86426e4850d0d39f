"""Inputs for the tests of logistic mixtures."""

from __future__ import annotations

import torch
from torch import Tensor


def level_values(levels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1).to(dtype)


def grey_params(means: Tensor, log_scales: Tensor | float, logits: Tensor | float = 0.0) -> Tensor:
    """(N, 3K, 1, 1) from means (N, K)."""
    like = torch.zeros_like(means)
    return torch.cat([like + logits, means, like + log_scales], 1)[:, :, None, None]
