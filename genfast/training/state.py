"""All that decides the next step of a run, to and from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfast.training.checkpoint import Checkpoint, CheckpointError, describe_model, prefixed
from genfast.training.config import TrainConfig
from genfast.training.history import History
from genfast.training.objectives import Objective
from genfast.training.weights import Average


@dataclass
class RunState:
    """What changes in a run from step to step; `average` is None if the run keeps none."""

    model: Any
    objective: Objective
    average: Average | None
    history: History = field(default_factory=History)

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return len(self.history.losses)

    @property
    def evaluated(self) -> Any:
        """The model to evaluate and to sample from: with averaged weights, if there are any."""
        return self.model if self.average is None else self.average.model

    def pack(self, config: TrainConfig, data: dict[str, Any]) -> Checkpoint:
        """A checkpoint of it, with the settings and the description of the data.

        All processes call it; only rank 0's is whole.
        """
        tensors, gathered = self.objective.pack()
        return Checkpoint(
            {
                **prefixed("model", self.model.state_dict()),
                **prefixed("ema", self.average.model.state_dict() if self.average else {}),
                **prefixed("objective", tensors),
                **prefixed("history", self.history.to_tensors()),
            },
            {
                "model": describe_model(self.model),
                "objective": gathered,
                "config": config.to_dict(),
                "data": data,
                "unit": self.model.unit,
            },
        )

    def unpack(self, checkpoint: Checkpoint, path: Path) -> None:
        """Take over what `pack` gave. Raises `CheckpointError`, naming `path`, if it does not fit."""
        try:
            self.model.load_state_dict(checkpoint.part("model"))
            self.history = History.from_tensors(checkpoint.part("history"))
            gathered = checkpoint.description["objective"]
            self.objective.unpack(checkpoint.part("objective"), gathered, self.step)
            if self.average is not None:
                self.average.load(checkpoint.part("ema"), self.step)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: cannot be resumed ({error})") from error
