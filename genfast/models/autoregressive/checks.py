"""Checks of what autoregressive models are given: levels, labels, conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genfast.models.checks import check_labels as check_labels
from genfast.models.checks import may_look


def check_levels(x: Tensor, levels: int, name: str) -> None:
    """`x` must be int64 in [0, levels)."""
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 levels, got {x.dtype}")
    if may_look(x) and x.numel():
        low, high = x.aminmax()
        if low < 0 or high >= levels:
            raise ValueError(f"{name} must hold levels in [0, {levels}), got {int(low)}..{int(high)}")


def check_condition(shape: Sequence[int], condition: Tensor | None, channels: int) -> None:
    """`condition` must be (N, channels, h, W) for images of `shape` (N, C, h, W), or None."""
    if (condition is None) != (channels == 0):
        raise ValueError(
            f"condition is needed: the model has {channels} condition_channels"
            if condition is None
            else "condition given, but the model has none (condition_channels=0)"
        )
    wanted = (shape[0], channels, *shape[2:])
    if condition is not None and tuple(condition.shape) != wanted:
        raise ValueError(f"condition must have shape {wanted}, got {tuple(condition.shape)}")
