"""What the codes of a model are good for: nearest-neighbour classification by their means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genfast.data import Split
from genfast.models.latent.neighbour_index import NeighbourIndex
from genfast.training.model_images import to_model

#: The published numbers of neighbours.
NEIGHBOURS = (3, 5, 7, 9, 11, 13, 15)


@torch.no_grad()
def mean_codes(model: Any, split: Split, batch_size: int = 1000) -> Tensor:
    """The means of q(z|x), or an autoencoder's codes, of all images: (N, D), fp32, on the CPU."""
    encode = getattr(model, "encode_mean", model.encode)
    device = next(model.parameters()).device
    parts = [
        encode(to_model(model, images.to(device))).float().cpu()
        for images in split.images.split(batch_size)
    ]
    return torch.cat(parts)


def knn_errors(
    known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor, neighbours: Sequence[int] = NEIGHBOURS
) -> dict[int, float]:
    """The share of wrong votes of the k nearest `known` codes, for each k.

    Args:
        known, labels: (N, D) codes and (N,) classes.
        asked, truth: (M, D) and (M,).
        neighbours: the numbers k. Of classes with as many votes the one with the lower number wins.

    >>> codes, classes = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
    >>> knn_errors(codes, classes, torch.tensor([[0.4], [4.0]]), torch.tensor([0, 1]), (1, 3))
    {1: 0.0, 3: 0.5}
    """
    index = NeighbourIndex("torch", torch.device("cpu"))
    index.build(known)
    votes = labels[index.search(asked, max(neighbours))[1]]
    classes = int(labels.max()) + 1
    errors = {}
    for k in neighbours:
        counts = torch.nn.functional.one_hot(votes[:, :k], classes).sum(1)
        errors[k] = (counts.argmax(1) != truth).double().mean().item()
    return errors
