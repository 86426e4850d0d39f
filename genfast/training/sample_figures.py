"""Figures of an adversarial model's samples or translations against held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data import ImageData, Split
from genfast.metrics import (
    frechet_distance,
    inception_features,
    precision_recall,
    train_feature_classifier,
)
from genfast.models.adversarial import AdversarialModel, TranslationModel
from genfast.training.images import to_unit


def measure_samples(
    model: AdversarialModel,
    data: ImageData,
    split: Split,
    *,
    inception: str | Path | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, float]:
    """Named figures. As many samples as `split` has images are drawn, in evaluation mode.

    Of a translation model: the mean absolute difference, in [0, 1], of its translations from their
    partners, and of the inputs themselves where both domains have the same channels.

    Of others: Frechet distance, precision and recall of features, the same Frechet distance of as many
    training images (what a perfect model could reach), and with classes how often a classifier finds the
    class that was asked for. The features are those of a small classifier that is trained here on the
    labels of the training images, or, with `inception`, of weights in that file. Neither is the FID of
    the papers.

    Raises:
        ValueError: images without labels, and no `inception`; fewer than 5 images.
    """
    if isinstance(model, TranslationModel):
        return _translation_figures(model, split, batch_size)
    if len(split) < 5:
        raise ValueError(f"at least 5 images are needed, got {len(split)}")
    device = next(model.parameters()).device
    labels = torch.arange(len(split)) % model.num_classes if model.num_classes else None
    drawing: Any = model.sample
    parts = []
    for first in range(0, len(split), batch_size):
        chosen = range(len(split))[first : first + batch_size]
        given = {} if labels is None else {"labels": labels[chosen.start : chosen.stop].to(device)}
        parts.append(drawing(len(chosen), seed=seed, start=first, **given).cpu())
    # As they would be stored.
    fake = (torch.cat(parts) * (data.levels - 1)).round() / (data.levels - 1)
    real, train = (to_unit(part.images, data.levels) for part in (split, data.train))
    judge = None
    if inception is not None:
        features = inception_features(inception)
    else:
        if data.train.labels is None:
            raise ValueError(
                f"{data.name} has no labels to train a classifier for features on; give the weights of "
                "an Inception network"
            )
        judge = train_feature_classifier(train, data.train.labels, seed=seed)
        features = judge.features
    seen = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: len(real)]]
    of_real, of_fake, of_train = (_in_parts(features, x, batch_size) for x in (real, fake, seen))
    precision, recall = precision_recall(of_real, of_fake)
    figures = {
        "Frechet distance": frechet_distance(of_real, of_fake),
        "Frechet distance of training images": frechet_distance(of_real, of_train),
        "precision": precision,
        "recall": recall,
    }
    if judge is not None and labels is not None:
        found = _in_parts(judge, fake, batch_size).argmax(1)
        figures["class asked for is class made"] = (found == labels).double().mean().item()
    return figures


@torch.no_grad()
def _in_parts(function: Any, x: Tensor, batch_size: int) -> Tensor:
    return torch.cat([function(part) for part in x.split(batch_size)])


def _translation_figures(model: TranslationModel, split: Split, batch_size: int) -> dict[str, float]:
    device = next(model.parameters()).device
    totals = {"mean difference from the partner": 0.0}
    for part in split.images.split(batch_size):
        images = to_unit(part, model.levels)
        a, b = images[:, : model.input_channels], images[:, model.input_channels :]
        pairs = {"mean difference from the partner": model.sample(len(a), given=a.to(device)).cpu()}
        if a.shape == b.shape:
            pairs["that of the input"] = a
        for name, made in pairs.items():
            difference = (made - b).abs().double().mean().item()
            totals[name] = totals.get(name, 0.0) + difference * len(part) / len(split)
    return totals
