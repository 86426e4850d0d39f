"""Training and evaluating the models of genfast; needs `pip install "genfast[train]"`."""

from __future__ import annotations

from genfast.training.checkpoint import BEST, CHECKPOINT, CheckpointError
from genfast.training.config import TrainConfig
from genfast.training.config_files import CONFIG, read_config
from genfast.training.distributed import Processes
from genfast.training.estimates import Evaluation
from genfast.training.evaluate import evaluate, independent_pixels
from genfast.training.images import image_grid, save_png
from genfast.training.runs import Run, open_run
from genfast.training.settings import ConfigError
from genfast.training.trainer import Trainer, TrainingError

__all__ = [
    "BEST",
    "CHECKPOINT",
    "CONFIG",
    "CheckpointError",
    "ConfigError",
    "Evaluation",
    "Processes",
    "Run",
    "TrainConfig",
    "Trainer",
    "TrainingError",
    "evaluate",
    "image_grid",
    "independent_pixels",
    "open_run",
    "read_config",
    "save_png",
]
