"""Checks of what autoregressive models are given: levels, labels, conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_levels(x: Tensor, levels: int, name: str) -> None:
    """`x` must be int64 in [0, levels)."""
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 levels, got {x.dtype}")
    if _may_look(x) and x.numel():
        low, high = x.aminmax()
        if low < 0 or high >= levels:
            raise ValueError(f"{name} must hold levels in [0, {levels}), got {int(low)}..{int(high)}")


def check_labels(n: int, labels: Tensor | None, num_classes: int) -> None:
    """`labels` must be (n,) int64 in [0, num_classes), or None if that is 0."""
    if (labels is None) != (num_classes == 0):
        raise ValueError(
            f"labels are needed: the model has {num_classes} classes"
            if labels is None
            else "labels given, but the model has no classes (num_classes=0)"
        )
    if labels is None:
        return
    if tuple(labels.shape) != (n,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape ({n},), got {labels.dtype} {tuple(labels.shape)}"
        )
    if _may_look(labels) and labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high >= num_classes:
            raise ValueError(f"labels must be in [0, {num_classes}), got {int(low)}..{int(high)}")


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


def _may_look(x: Tensor) -> bool:
    """Whether reading values costs nothing: on a CPU, outside compilation."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
