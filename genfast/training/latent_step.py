"""Steps of variational autoencoders: a weight of the KL term that rises over the first epochs."""

from __future__ import annotations

from typing import Any

import torch

from genfast.training.batches import Part
from genfast.training.config import TrainConfig
from genfast.training.objectives import LikelihoodStep


class LatentStep(LikelihoodStep):
    """Gradient descent on -ELBO, its KL term weighted by `kl_weight_at`."""

    def terms(self, part: Part) -> dict[str, Any]:
        weight = kl_weight_at(self.config, part.epoch)
        # A tensor: for a number, torch.compile would compile each epoch anew.
        return {"kl_weight": torch.tensor(weight, device=part.images.device)}


def kl_weight_at(config: TrainConfig, epoch: int) -> float:
    """The weight of the KL term in an epoch, counted from 0.

    kl_weight * min(1, (epoch + 1) / kl_warmup), as published (Tomczak and Welling 2018, kl_warmup 100).

    >>> config = TrainConfig(model="vae", kl_weight=0.5, kl_warmup=4)
    >>> [kl_weight_at(config, epoch) for epoch in range(5)]
    [0.125, 0.25, 0.375, 0.5, 0.5]
    """
    risen = min(1.0, (epoch + 1) / config.kl_warmup) if config.kl_warmup else 1.0
    return config.kl_weight * risen
