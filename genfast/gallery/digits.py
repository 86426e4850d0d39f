"""What exhibits on handwritten digits share: a training run, a picture, a judge that knows real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data import ImageData
from genfast.data.extras import require
from genfast.gallery.exhibit import PICTURE
from genfast.training.config import TrainConfig
from genfast.training.images import as_levels, from_unit, image_grid, save_png, to_unit
from genfast.training.trainer import Trainer

COLUMNS = 10
_SHOWN = 256  # levels: what networks draw lies between those of the data


def train(folder: Path, settings: dict[str, Any]) -> Trainer:
    """A finished run on digits in `folder`/run, from settings as in a recipe file."""
    config = TrainConfig.from_dict({"data": "digits", "sample_every": 0, **settings})
    trainer = Trainer.start(config, folder / "run", overwrite=True, quiet=True)
    if not trainer.run():
        raise KeyboardInterrupt  # the run has saved itself, and swallowed the signal
    return trainer


def draw(folder: Path, *rows: Tensor) -> None:
    """PICTURE in `folder`: images in [0, 1], COLUMNS in a row."""
    images = from_unit(torch.cat(rows).clamp(0, 1), _SHOWN)
    save_png(folder / PICTURE, image_grid(images, _SHOWN, COLUMNS))


def held_out(trainer: Trainer, count: int = COLUMNS) -> Tensor:
    """The first `count` test images, in [0, 1]."""
    return to_unit(trainer.data.test.images[:count], trainer.data.levels)


class Judge:
    """A support vector machine that learned the classes of the real training images."""

    def __init__(self, data: ImageData) -> None:
        assert data.train.labels is not None
        self.levels = data.levels
        self._machine = require("sklearn.svm", "train").SVC()
        self._machine.fit(data.train.images.flatten(1).numpy(), data.train.labels.numpy())

    def classes_of(self, images: Tensor) -> list[int]:
        """Of images as a model's `sample` gives them: levels, or floats in [0, 1]."""
        levels = as_levels(images, self.levels).flatten(1)
        return [int(c) for c in self._machine.predict(levels.numpy())]
