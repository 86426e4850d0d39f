"""Checks of what models are given."""

from __future__ import annotations

import torch
from torch import Tensor


def checked_images(
    image_shape: tuple[int, int, int], levels: int, num_classes: int = 0
) -> tuple[int, int, int]:
    """`image_shape`, if it is (C, H, W) and there are two levels or more."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(
            f"image_shape must be (C, H, W) with sizes of at least 1, got {tuple(image_shape)}"
        )
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 (unconditional) or positive, got {num_classes}")
    channels, height, width = image_shape
    return channels, height, width


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
    if may_look(labels) and labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high >= num_classes:
            raise ValueError(f"labels must be in [0, {num_classes}), got {int(low)}..{int(high)}")


def may_look(x: Tensor) -> bool:
    """Whether reading values costs nothing: on a CPU, outside compilation."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
