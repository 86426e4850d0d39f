"""Opening the folder of a training run: its settings, its model and its data."""

from __future__ import annotations

import inspect
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genfast.data import DataError, ImageData
from genfast.models import MODELS
from genfast.training.batches import load_data
from genfast.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    CheckpointError,
    build_model,
    read_checkpoint,
)
from genfast.training.config import TrainConfig
from genfast.training.settings import ConfigError


@dataclass(frozen=True)
class Run:
    """A run as its checkpoint has it: `model` is in evaluation mode, `path` is the checkpoint.

    The model has the averaged weights if the run keeps an average (`TrainConfig.ema`).
    """

    path: Path
    config: TrainConfig
    model: Any
    checkpoint: Checkpoint

    def load_data(self) -> ImageData:
        """The data the model was trained on; `DataError` if what is there now is not the same."""
        data = load_data(self.config)
        found, expected = describe_data(data), self.checkpoint.description.get("data")
        if found != expected:
            raise DataError(
                f"{self.config.data}: not the data that {self.path.parent} was trained on: "
                f"expected {expected}, found {found}"
            )
        return data

    def load_intensities(self) -> ImageData:
        """The same images and splits before they were binarised or quantised."""
        return load_data(replace(self.config, binarise=None, levels=None))


def open_run(run_dir: str | Path, *, file: str = CHECKPOINT, **changes: Any) -> Run:
    """Open a run's folder; `changes` are settings to replace (see `TrainConfig.continued`).

    `file` names the checkpoint: the last one, or `BEST` in a run with early stopping.
    Raises `CheckpointError`, or `ConfigError` if a setting cannot be changed.

    >>> open_run("no/such/run")
    Traceback (most recent call last):
    ...
    genfast.training.checkpoint.CheckpointError: no/such/run/checkpoint.safetensors: not found
    """
    path = Path(run_dir) / file
    checkpoint = read_checkpoint(path)
    try:
        config = TrainConfig.from_dict(checkpoint.description["config"])
        model = build_model(checkpoint).eval()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        message = f"{path}: its model or settings are not of this genfast ({error})"
        raise CheckpointError(message) from error
    return Run(path, config.continued(changes), model, checkpoint)


def make_model(config: TrainConfig, data: ImageData) -> Any:
    """The model of a new run, its weights drawn by the seed.

    A model takes its settings and, of what the data say, the arguments that it has: image_shape,
    levels, num_classes (0 in a run that is not conditional), input_channels. Raises `ConfigError`.
    """
    model_class: Any = MODELS[config.model]
    accepted = inspect.signature(model_class.__init__).parameters
    if config.conditional and not data.num_classes:
        raise ConfigError(f"conditional: the data set {data.name} has no labels")
    if config.conditional and "num_classes" not in accepted:
        raise ConfigError(f"conditional: the model {config.model} takes no labels")
    from_data = {
        "image_shape": data.image_shape,
        "levels": data.levels,
        "num_classes": data.num_classes if config.conditional else 0,
        "input_channels": getattr(data, "input_channels", 0),
    }
    arguments = {name: value for name, value in from_data.items() if name in accepted}
    torch.manual_seed(config.seed)
    try:
        return model_class(**arguments, **config.model_settings)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def describe_data(data: ImageData) -> dict[str, Any]:
    """What tells one data set from another, as JSON values."""
    return {
        "image_shape": list(data.image_shape),
        "levels": data.levels,
        "num_classes": data.num_classes,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "crc32": zlib.crc32(data.train.images.numpy().tobytes()),
    }
