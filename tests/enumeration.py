"""Exact facts about small autoregressive models: every image, its probability, every dependency."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from genfast.models.autoregressive import AutoregressiveModel


def all_images(image_shape: tuple[int, int, int], levels: int) -> Tensor:
    """Every image there is, (levels^(C*H*W), C, H, W)."""
    channels, height, width = image_shape
    values = list(itertools.product(range(levels), repeat=channels * height * width))
    return torch.tensor(values).view(-1, channels, height, width)


def randomise(model: AutoregressiveModel, scale: float = 0.5, seed: int = 0) -> None:
    """Weights large enough that every dependency shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            spread = scale * (3 / fan_in**0.5 if parameter.ndim > 1 else 1)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)


def dependencies(
    model: AutoregressiveModel, labels: Tensor | None = None, condition: Tensor | None = None
) -> Tensor:
    """Jacobian pattern of the network: [event, value], both in order of generation.

    Values are pixel by pixel, then colour by colour; so are events, unless a pixel's colours are one.
    """
    channels, height, width = model.image_shape
    events = events_per_pixel(model)
    dtype = next(model.parameters()).dtype
    x = torch.rand(1, channels, height, width, dtype=dtype) * 2 - 1

    def outputs(x: Tensor) -> Tensor:
        y = model.network(x, labels, condition).unflatten(1, (events, -1)).sum(2)
        return y.permute(0, 2, 3, 1).flatten()

    jacobian = torch.autograd.functional.jacobian(outputs, x)
    return jacobian.reshape(-1, channels, height, width).permute(0, 2, 3, 1).flatten(1)


def reached(models: Iterable[AutoregressiveModel]) -> Tensor:
    """Which values reach which events in one or another of some models: ReLUs hide paths of each."""
    return torch.stack([dependencies(model) != 0 for model in models]).any(0)


def earlier(model: AutoregressiveModel) -> Tensor:
    """Which values come before which events: bool, as `dependencies`."""
    channels, height, width = model.image_shape
    events = events_per_pixel(model)
    event = torch.arange(height * width * events)[:, None]
    value = torch.arange(height * width * channels)[None]
    return value // (channels // events) < event


def events_per_pixel(model: AutoregressiveModel) -> int:
    """Distributions a pixel: one for each colour, or one for all."""
    return len(model.output_head.passes)
