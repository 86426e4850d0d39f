"""Which kind of step trains a model."""

from __future__ import annotations

from typing import Any

from genfast.models.adversarial import AdversarialModel
from genfast.models.latent import ExemplarVAE, LatentVariableModel
from genfast.training.adversarial import AdversarialStep
from genfast.training.batches import Batches
from genfast.training.config import TrainConfig
from genfast.training.distributed import Processes
from genfast.training.exemplar_step import ExemplarStep
from genfast.training.latent_step import LatentStep
from genfast.training.objectives import LikelihoodStep, Objective


def make_step(model: Any, config: TrainConfig, processes: Processes, batches: Batches) -> Objective:
    """The kind of step for `model`; the schedule of its learning rate is laid out for all epochs."""
    total_steps = config.epochs * batches.steps_per_epoch
    if isinstance(model, AdversarialModel):
        return AdversarialStep(model, config, processes, total_steps)
    if isinstance(model, ExemplarVAE):
        return ExemplarStep(model, config, processes, total_steps, batches)
    if isinstance(model, LatentVariableModel):
        return LatentStep(model, config, processes, total_steps)
    return LikelihoodStep(model, config, processes, total_steps)
