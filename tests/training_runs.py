"""Small runs that the tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from genfast.training import (
    TrainConfig,
    Trainer,
)

# 10 steps an epoch; small enough that a step takes a few milliseconds.
TINY: dict[str, Any] = {
    "data": "digits",
    "levels": 2,
    "model_settings": {"channels": 4, "layers": 2},
    "batch_size": 120,
    "sample_every": 0,
    "epochs": 2,
    "seed": 7,
    "lr": 1e-2,
    "conditional": True,
}


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(**{**TINY, **settings})


def start(run_dir: Path, **settings: Any) -> Trainer:
    return Trainer.start(config(**settings), run_dir, quiet=True)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same_run(trainer: Trainer, other: Trainer) -> None:
    """Equal to the bit: losses of every step, weights, their average, optimiser state."""
    assert trainer.history.losses == other.history.losses
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    assert (trainer.average is None) == (other.average is None)
    for name, tensor in trainer.evaluated.state_dict().items():
        assert torch.equal(tensor, other.evaluated.state_dict()[name]), name
    (gathered, values), (others, other_values) = (t.objective.pack() for t in (trainer, other))
    assert values == other_values
    assert gathered.keys() == others.keys()
    for name, tensor in gathered.items():
        assert torch.equal(tensor, others[name]), name
