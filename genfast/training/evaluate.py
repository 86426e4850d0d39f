"""Likelihood on held-out images, and the independent-pixel model that any other has to beat."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genfast.data import Split


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood of `count` images, with its standard error, in bits/dim.

    `dims` is the number of pixels times colours of an image: nats an image are
    bits/dim * dims * ln 2.
    """

    bits_per_dim: float
    standard_error: float
    count: int
    dims: int

    @property
    def nats(self) -> float:
        """Mean nats an image."""
        return self.bits_per_dim * self.dims * math.log(2)


def summarise(log_probs: Iterable[Tensor], dims: int) -> Evaluation:
    """Exact mean and standard error of log-probabilities (N,) in nats that come in batches.

    Sums of squared deviations are merged batch by batch in float64 (Chan, Golub, LeVeque 1979), so
    neither the number of batches nor a short last one matters, and nothing is kept.
    Raises `ValueError` if there are no images.

    >>> batches = [torch.tensor([-8.0, -10.0]), torch.tensor([-12.0])]
    >>> result = summarise(batches, dims=4)
    >>> round(result.nats, 12), result.count
    (10.0, 3)
    """
    count, mean, squares = 0, 0.0, 0.0
    for batch in log_probs:
        values = -batch.double().flatten()
        n = values.numel()
        if n == 0:
            continue
        batch_mean = values.mean().item()
        delta = batch_mean - mean
        total = count + n
        mean += delta * n / total
        squares += (values - batch_mean).square().sum().item() + delta * delta * count * n / total
        count = total
    if count == 0:
        raise ValueError("there are no images to evaluate")
    scale = 1.0 / (dims * math.log(2))
    error = math.sqrt(squares / (count - 1) / count) if count > 1 else math.nan
    return Evaluation(mean * scale, error * scale, count, dims)


def evaluate(model: Any, split: Split, *, labels: bool = False, batch_size: int = 64) -> Evaluation:
    """Bits/dim of `model` on every image of `split`; with `labels`, given their classes.

    The model is put in evaluation mode and left as it was found.

    >>> from genfast.data import load
    >>> from genfast.models import MODELS
    >>> data = load("digits", levels=2)
    >>> model = MODELS["gated-pixelcnn"](data.image_shape, data.levels, channels=4, layers=2)
    >>> evaluate(model, data.test).count
    299
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return summarise(_log_probs(model, split, labels, batch_size), dims(split))
    finally:
        model.train(was_training)


def _log_probs(model: Any, split: Split, labels: bool, batch_size: int) -> Iterable[Tensor]:
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        given = split.labels[part] if labels and split.labels is not None else None
        yield model.log_prob(split.images[part].to(torch.int64), given)


def dims(split: Split) -> int:
    """Pixels times colours of an image."""
    return math.prod(split.images.shape[1:])


def independent_pixels(train: Split, test: Split, levels: int, *, num_classes: int = 0) -> Evaluation:
    """Bits/dim on `test` of a histogram for each pixel and colour, counted on `train`.

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
    return summarise((log_probs[place].sum(1) for place in _places(test, num_classes)), dims(test))


def _places(split: Split, num_classes: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Where each value of each image is counted: (class, dim, level), in batches of images."""
    for start in range(0, len(split), 1024):
        part = slice(start, start + 1024)
        values = split.images[part].flatten(1).to(torch.int64)
        group = torch.zeros(len(values), 1, dtype=torch.int64)
        if num_classes and split.labels is not None:
            group = split.labels[part].unsqueeze(1)
        yield group, torch.arange(values.shape[1]), values
