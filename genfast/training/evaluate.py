"""Likelihood on held-out images, and the independent-pixel model that any other has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from genfast.data import ImageData, Split
from genfast.sampling.modes import evaluating
from genfast.training.distributed import Processes
from genfast.training.estimates import Evaluation, Moments
from genfast.training.model_images import to_model
from genfast.training.turns import image_bar, in_turn


def evaluate(
    model: Any,
    split: Split,
    *,
    labels: bool = False,
    batch_size: int = 64,
    processes: Processes | None = None,
    seed: int = 0,
    progress: bool = False,
    score: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> Evaluation:
    """Mean negative log-likelihood of `model` on every image of `split`, in the model's `unit`.

    It is that of `score` if given (an ELBO, or an estimate from more samples), else of `model.log_prob`.
    With `labels`, given their classes. The model is put in evaluation mode and left as it was found.
    One batch is in memory at a time. With `processes`, they take the batches in turn, and each gets
    the figures that one process would get, to the bit (at the same number of threads). What noise a
    model draws for its `log_prob` is keyed by `seed` and the batch; torch's generators are left alone.
    Raises `ValueError` if there are no images.

    >>> from genfast.data import load
    >>> from genfast.models import MODELS
    >>> data = load("digits", levels=2)
    >>> model = MODELS["gated-pixelcnn"](data.image_shape, data.levels, channels=4, layers=2)
    >>> evaluate(model, data.test).count
    299
    """
    device = next(model.parameters()).device
    score = score or model.log_prob

    @torch.no_grad()
    def measure(start: int) -> Moments:
        part = slice(start, start + batch_size)
        images = split.images[part].to(device)
        given = split.labels[part].to(device) if labels and split.labels is not None else None
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed + start)
            return Moments.of(-score(to_model(model, images), given))

    def measured() -> Iterable[Moments]:
        shown = progress and (processes is None or processes.is_main)
        with image_bar(len(split), "evaluating", shown) as bar:
            for moments in in_turn(range(0, len(split), batch_size), measure, processes):
                bar.update(moments.count)
                yield moments

    with evaluating(model):
        moments = Moments.merged(measured())
    if processes is not None:
        moments = processes.broadcast(moments)
    return Evaluation.of(moments, dims(split), model.unit)


def dims(split: Split) -> int:
    """Pixels times colours of an image."""
    return math.prod(split.images.shape[1:])


def spread(split: Split, count: int | None) -> Split:
    """`count` images at even distances over the whole of `split`; all of it if None or no more.

    Not the first ones: data sets are often sorted, by class or by who wrote.

    >>> spread(Split(torch.arange(10)), 4).images.tolist()
    [0, 2, 5, 7]
    """
    if count is None or count >= len(split):
        return split
    index = torch.arange(count) * len(split) // count
    return Split(split.images[index], None if split.labels is None else split.labels[index])


def baselines(data: ImageData, test: Split, num_classes: int, unit: str) -> dict[str, Evaluation]:
    """`independent_pixels` on `test`, and, with `num_classes`, the same given the class."""
    name, train, levels = "independent pixels", data.train, data.levels
    results = {name: independent_pixels(train, test, levels, unit=unit)}
    if num_classes:
        results[f"{name} given the class"] = independent_pixels(
            train, test, levels, num_classes=num_classes, unit=unit
        )
    return results


def independent_pixels(
    train: Split, test: Split, levels: int, *, num_classes: int = 0, unit: str = "bits/dim"
) -> Evaluation:
    """The figure on `test`, in `unit`, of a histogram for each pixel and colour, counted on `train`.

    Each count begins at one (Laplace), so that no level has probability zero. With `num_classes`
    there is a histogram for each class as well: the fair comparison for a conditional model.

    >>> from genfast.data import load
    >>> data = load("digits")
    >>> round(independent_pixels(data.train, data.test, data.levels).bits_per_dim, 2)
    2.43
    """
    counts = torch.ones(max(1, num_classes), dims(train), levels, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    for place in _places(train, num_classes):
        counts.index_put_(place, one, accumulate=True)
    log_probs = (counts / counts.sum(2, keepdim=True)).log()
    parts = (Moments.of(-log_probs[place].sum(1)) for place in _places(test, num_classes))
    return Evaluation.of(Moments.merged(parts), dims(test), unit)


def _places(split: Split, num_classes: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Where each value of each image is counted: (class, dim, level), in batches of images."""
    for start in range(0, len(split), 1024):
        part = slice(start, start + 1024)
        values = split.images[part].flatten(1).to(torch.int64)
        group = torch.zeros(len(values), 1, dtype=torch.int64)
        if num_classes and split.labels is not None:
            group = split.labels[part].unsqueeze(1)
        yield group, torch.arange(values.shape[1]), values
