"""Training and evaluating the models of genfast; needs `pip install "genfast[train]"`."""

from __future__ import annotations

from genfast.training.checkpoint import CHECKPOINT, CheckpointError
from genfast.training.config import ConfigError, TrainConfig
from genfast.training.estimates import Evaluation
from genfast.training.evaluate import evaluate, independent_pixels
from genfast.training.images import image_grid, save_png
from genfast.training.runs import Run, open_run
from genfast.training.trainer import Trainer, TrainingError

__all__ = [
    "CHECKPOINT",
    "CheckpointError",
    "ConfigError",
    "Evaluation",
    "Run",
    "TrainConfig",
    "Trainer",
    "TrainingError",
    "evaluate",
    "image_grid",
    "independent_pixels",
    "open_run",
    "save_png",
]
