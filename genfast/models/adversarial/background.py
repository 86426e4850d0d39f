"""The direction that changes the background most, and the masks and pictures that it gives.

Source: Voynov and Babenko (2020), section 5: a direction that removes the background segments images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genfast.models.adversarial.latent_directions import LatentDirections

_THRESHOLDS = 256


@dataclass(frozen=True)
class BackgroundDirection:
    """Direction `index`, gone `magnitude` (signed) along; `scores` (k, 2) of all, for +- magnitude."""

    index: int
    magnitude: float
    scores: Tensor


@torch.no_grad()
def background_direction(
    directions: LatentDirections, *, n: int = 64, magnitude: float = 6.0, seed: int = 0
) -> BackgroundDirection:
    """The direction and sign with the largest score.

    The score is the mean |G(z + e a) - G(z)| over the frame of the image, an eighth of each side wide,
    less that over its central half (as high and as wide).

    Args:
        directions: of the generator.
        n: latent vectors to average over.
        magnitude: |e|.
        seed: of the vectors; torch's generator is left alone.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        z, labels = directions.draw(n)
    start = directions.generate(z, labels)
    scores = torch.zeros(directions.k, 2)
    for index in range(directions.k):
        for side, sign in enumerate((1, -1)):
            moved = directions.generate(directions.shift(z, index, sign * magnitude), labels)
            scores[index, side] = _frame_less_centre((moved - start).abs())
    best = int(scores.argmax())
    index, side = divmod(best, 2)
    return BackgroundDirection(index, magnitude if side == 0 else -magnitude, scores)


@torch.no_grad()
def foreground_mask(
    directions: LatentDirections,
    background: BackgroundDirection,
    z: Tensor,
    labels: Tensor | None = None,
) -> Tensor:
    """Masks (N, H, W) bool of what the direction leaves as it is, for images of z (N, latent_dim).

    A pixel belongs to the background if it changes, in the mean over colours, by more than the threshold
    between small and large changes that Otsu's method finds in each image.
    """
    start = directions.generate(z, labels)
    moved = directions.generate(directions.shift(z, background.index, background.magnitude), labels)
    change = (moved - start).abs().mean(1)
    threshold = torch.stack([otsu_threshold(image) for image in change])
    return change <= threshold[:, None, None]


def replace_background(images: Tensor, masks: Tensor, backgrounds: Tensor) -> Tensor:
    """Images (N, C, H, W) where masks (N, H, W) hold, else `backgrounds` (N, C, H, W)."""
    if images.shape != backgrounds.shape or masks.shape != images[:, 0].shape:
        shapes = [tuple(tensor.shape) for tensor in (images, masks, backgrounds)]
        raise ValueError(
            f"images and backgrounds must be (N,C,H,W) and masks (N,H,W) alike, got {shapes}"
        )
    return torch.where(masks.unsqueeze(1), images, backgrounds)


def otsu_threshold(values: Tensor) -> Tensor:
    """The threshold, 0-dim, that parts values into two groups of least variance within (Otsu 1979).

    >>> round(otsu_threshold(torch.tensor([0.0, 0.1, 0.1, 0.9, 1.0])).item(), 1)
    0.5
    """
    values = values.flatten()
    low, high = values.aminmax()
    candidates = torch.linspace(0, 1, _THRESHOLDS, device=values.device) * (high - low) + low
    below = values[None] <= candidates[:, None]
    share = below.to(values.dtype).mean(1)
    mean_below = (values * below).sum(1) / below.sum(1).clamp(min=1)
    mean_above = (values * ~below).sum(1) / (~below).sum(1).clamp(min=1)
    between = share * (1 - share) * (mean_below - mean_above) ** 2
    best = candidates[between >= between.max() * (1 - 1e-6)]
    return (best[0] + best[-1]) / 2  # the middle of the gap


def _frame_less_centre(change: Tensor) -> Tensor:
    height, width = change.shape[2:]
    frame = torch.ones(height, width, dtype=torch.bool, device=change.device)
    rows, columns = max(1, height // 8), max(1, width // 8)
    frame[rows:-rows, columns:-columns] = False
    centre = change[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
    return change[:, :, frame].mean() - centre.mean()
