"""Training `LatentDirections`, and the picture of what they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genfast.data.extras import require
from genfast.models.adversarial import LatentDirections
from genfast.training.images import from_unit, image_grid, save_png


def train_directions(
    model: LatentDirections,
    *,
    steps: int = 2000,
    batch_size: int = 32,
    lr: float = 1e-4,
    directions_lr: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[float]:
    """Adam on the loss of `model` -> its value in every step. torch's generator is left alone.

    Args:
        steps: 100,000 in the paper.
        batch_size: pairs of images a step.
        lr: of the reconstructor, and of the directions unless they have their own.
        directions_lr: of the directions.
        seed: of all draws.
        progress: shows a bar.

    Raises:
        ValueError: steps below 0, batch_size below 2 or a rate that is not positive.
        ArithmeticError: the loss is not finite.

    >>> from torch import nn
    >>> picture = nn.Sequential(nn.Linear(5, 64), nn.Unflatten(1, (1, 8, 8)))
    >>> len(train_directions(LatentDirections(picture, 5, 2, width=1), steps=3, batch_size=4))
    3
    """
    for name, value, least in (("steps", steps, 0), ("batch_size", batch_size, 2)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    own = lr if directions_lr is None else directions_lr
    for name, rate in (("lr", lr), ("directions_lr", own)):
        if not rate > 0:
            raise ValueError(f"{name} must be greater than 0, got {rate}")
    groups: list[dict[str, Any]] = [
        {"params": [model.weight], "lr": own},
        {"params": list(model.reconstructor.parameters())},
    ]
    optimiser = torch.optim.Adam(groups, lr)
    losses: list[float] = []
    device = model.weight.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.train()
        shown = require("tqdm").tqdm(range(steps), disable=None if progress else True)
        for step in shown:
            optimiser.zero_grad(set_to_none=True)
            loss = model.loss(batch_size)
            losses.append(loss.item())
            if not loss.isfinite():
                raise ArithmeticError(f"the loss became {losses[-1]} at step {step + 1}")
            loss.backward()
            optimiser.step()
            shown.set_postfix_str(f"{losses[-1]:.4f}", refresh=False)
    return losses


def save_traversals(
    path: str | Path,
    model: LatentDirections,
    *,
    magnitudes: Sequence[float] = (-6, -4, -2, 0, 2, 4, 6),
    seed: int = 0,
    label: int | None = None,
) -> None:
    """One image moved along every direction: a row a direction, a column a magnitude, as PNG.

    Args:
        path: of the PNG file.
        model: whose generator gives images in [-1, 1].
        magnitudes: the shifts.
        seed: of the image that is moved.
        label: its class, of a conditional generator; drawn if None.

    Raises:
        ValueError: a label of a generator without classes.
    """
    if label is not None and not 0 <= label < model.num_classes:
        raise ValueError(f"label must be in [0, {model.num_classes}), got {label}")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        z, labels = model.draw(1)
    if label is not None and labels is not None:
        labels = torch.full_like(labels, label)
    rows = [model.traverse(z, index, magnitudes, labels)[0] for index in range(model.k)]
    images = (torch.cat(rows).float().cpu() + 1) / 2
    save_png(path, image_grid(from_unit(images, 256), 256, len(magnitudes)))
