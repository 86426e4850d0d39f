"""Initial weights that depend on data."""

from __future__ import annotations

from typing import Any

import torch

from genfast.training.batches import Batches, noise_seed, take_batch
from genfast.training.model_images import to_model

_INITIAL = 2**31 + 1  # numbers the noise here, out of the way of the parts of a step


def initialise(model: Any, batches: Batches) -> None:
    """Lets a model of a new run set its weights by all images of the first step, in training mode.

    Every process computes the same; DistributedDataParallel, made from the model after this, takes the
    first one's, so that they are equal to the bit. A model without `initialise_from_data` needs nothing.
    """
    if not hasattr(model, "initialise_from_data"):
        return
    config, device = batches.config, batches.processes.device
    images, labels = take_batch(batches.data, batches.index(0), 0, config)
    torch.manual_seed(noise_seed(config.seed, 0, _INITIAL))
    model.to(device).train()
    images = to_model(model, images.to(device))
    model.initialise_from_data(images, None if labels is None else labels.to(device))
