"""Which images a step sees, in which parts, on which process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data import ImageData, load
from genfast.data.domains import load_domains
from genfast.models import MODELS
from genfast.models.adversarial import TranslationModel
from genfast.training.config import TrainConfig
from genfast.training.distributed import Processes
from genfast.training.settings import ConfigError


@dataclass(frozen=True)
class Part:
    """What a process computes at once: images (n, ...), labels (n,) or None.

    `share` is n over the images of the whole step: the shares of all parts of all processes add up
    to 1. `seed` is that of the noise a model may draw, `numbers` (n,) are those of the images among the
    training images, and `epoch` counts from 0.
    """

    images: Tensor
    labels: Tensor | None
    share: float
    seed: int
    numbers: Tensor
    epoch: int


def load_data(config: TrainConfig) -> ImageData:
    """The data set of a run, of a translation model with both domains. Raises `DataError`."""
    kind = MODELS[config.model]
    if issubclass(kind, TranslationModel):
        return load_domains(
            config.data,
            config.data_dir,
            domains=config.domains or "folders",
            paired=kind.PAIRED,
            levels=config.levels,
            image_size=config.image_size,
            crop=config.crop,
            colour=config.colour,
            flip=config.flip,
        )
    return load(
        config.data,
        config.data_dir,
        config.levels,
        image_size=config.image_size,
        crop=config.crop,
        colour=config.colour,
        binarise=config.binarise,
        flip=config.flip,
    )


def take_batch(
    data: ImageData, index: np.ndarray[Any, Any], epoch: int, config: TrainConfig
) -> tuple[Tensor, Tensor | None]:
    """Training images at `index`, int64 levels (n, C, H, W), and labels (n,) of a conditional run."""
    images, labels = data.batch("train", torch.from_numpy(index), epoch=epoch, seed=config.seed)
    return images.to(torch.int64), labels if config.conditional else None


class Batches:
    """The order of the data: epoch e runs through a permutation keyed by (seed, e).

    So the step number alone is the position in it. An epoch is cut in steps of equal size, give or
    take one image, and a step in `accumulate` parts for each process. Raises `ConfigError` if
    batch_size cannot be cut so.
    """

    def __init__(self, data: ImageData, config: TrainConfig, processes: Processes) -> None:
        self.data, self.config, self.processes = data, config, processes
        self.parts_per_step = processes.world_size * config.accumulate
        if config.batch_size % self.parts_per_step:
            raise ConfigError(
                f"batch_size: must be divisible by the {processes.world_size} processes times "
                f"accumulate {config.accumulate}, got {config.batch_size}"
            )
        self.steps_per_epoch = math.ceil(len(data.train) / config.batch_size)
        self._order: tuple[int, list[np.ndarray[Any, Any]]] | None = None

    def index(self, step: int) -> np.ndarray[Any, Any]:
        """The images of a step, over all processes."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng([self.config.seed, epoch])
            order = generator.permutation(len(self.data.train))
            # In parts of equal size (give or take one): no last step on a handful of images.
            self._order = epoch, np.array_split(order, self.steps_per_epoch)
        return self._order[1][position]

    def parts(self, step: int) -> list[Part]:
        """The parts of a step that are this process's, on its device."""
        index, epoch = self.index(step), step // self.steps_per_epoch
        pieces = np.array_split(index, self.parts_per_step)
        parts = []
        for number in range(self.processes.rank, self.parts_per_step, self.processes.world_size):
            piece = pieces[number]
            share = len(piece) / len(index)
            # Every process takes part in every step: without an image, with one that counts nothing.
            chosen = piece if len(piece) else index[:1]
            images, labels = take_batch(self.data, chosen, epoch, self.config)
            device = self.processes.device
            parts.append(
                Part(
                    images.to(device),
                    None if labels is None else labels.to(device),
                    share,
                    noise_seed(self.config.seed, step, number),
                    torch.from_numpy(chosen).to(device),
                    epoch,
                )
            )
        return parts


def noise_seed(seed: int, step: int, part: int) -> int:
    """The seed of torch's generator in one part of one step: no generator's state need be kept."""
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0] >> 1)
