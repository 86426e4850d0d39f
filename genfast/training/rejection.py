"""Images of a trained GAN that its discriminator accepts, and those that it likes most and least."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genfast.models.adversarial import AdversarialModel
from genfast.sampling import DiscriminatorRejectionSampler
from genfast.sampling.modes import evaluating
from genfast.training.images import from_unit, image_grid, save_png

Choice = Literal["accepted", "extremes"]

_BURN_IN = 1024
_PERCENTILE = 80.0
_PROPOSALS = 50  # for an image of the extremes
_COLUMNS = 10  # at most, of the extremes


def save_by_rejection(
    path: str | Path, model: Any, choice: Choice, n: int, *, seed: int = 0, batch_size: int = 64
) -> str:
    """A grid of n images as a PNG file -> a sentence about it.

    Args:
        path: of the file.
        model: a GAN without classes whose discriminator gives logits.
        choice: "accepted", by `DiscriminatorRejectionSampler` with gamma the 80th percentile of F; or
            "extremes": the upper half are those with the highest probability of being accepted, best
            first, the lower half those with the lowest, worst last, of 50 n.
        n: how many images; even for the extremes.
        seed: of the draws.
        batch_size: proposals at a time.

    Raises:
        ValueError: a model without a discriminator of single images, or an n that does not do.
        OSError: the file cannot be written.
    """
    given = isinstance(model, AdversarialModel) and hasattr(model, "latents")
    if not given or model.num_classes:
        raise ValueError(f"--rejection: takes a GAN without classes, got {type(model).__name__}")
    columns = None
    if choice == "extremes":
        if n % 2:
            raise ValueError(f"-n: must be even, half of the images are the best, got {n}")
        highest, lowest = extremes(model, n // 2, seed=seed, batch_size=batch_size)
        images = torch.cat([highest, lowest.flip(0)])
        columns = max(c for c in range(1, _COLUMNS + 1) if n // 2 % c == 0)  # each half has whole rows
        said = f"the {n // 2} most and least acceptable images of {n * _PROPOSALS}"
    else:
        sampler = DiscriminatorRejectionSampler.from_model(
            model, percentile=_PERCENTILE, seed=seed, batch_size=batch_size
        )
        sampler.burn_in(_BURN_IN)
        images = sampler.sample(n)
        state = sampler.state
        said = (
            f"{n} accepted images, {state.acceptance:.0%} of the proposals, {state.stale} of them stale"
        )
    levels = from_unit((images.cpu() + 1) / 2, model.levels)
    save_png(path, image_grid(levels, model.levels, columns))
    return said


@torch.no_grad()
def extremes(model: Any, keep: int, *, seed: int = 0, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """The images with the highest and with the lowest probability of being accepted, of 100 times keep.

    Returns:
        (keep, C, H, W) twice, in [-1, 1]: highest first, and lowest first. Acceptance rises with the
        logit, whatever M and gamma are.

    >>> import genfast
    >>> from genfast.training.rejection import extremes
    >>> model = genfast.models.GAN((1, 8, 8), levels=17, hidden=16)
    >>> highest, lowest = extremes(model, 3)
    >>> bool((model.logits(highest).min() > model.logits(lowest).max()).item())
    True
    """
    with evaluating(model):
        images, logits = None, torch.empty(0)
        total = 2 * keep * _PROPOSALS
        for start in range(0, total, batch_size):
            z = model.latents(min(batch_size, total - start), seed=seed, start=start)
            more = model.generate(z)
            images = more if images is None else torch.cat([images, more])
            logits = torch.cat([logits.to(more), model.logits(more)])
            order = logits.argsort(descending=True)
            if len(order) > 2 * keep:
                order = torch.cat([order[:keep], order[-keep:]])
            images, logits = images[order], logits[order]
    assert images is not None
    return images[:keep], images[-keep:].flip(0)
