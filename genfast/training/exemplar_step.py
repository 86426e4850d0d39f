"""Steps of the Exemplar VAE: which exemplars each of them re-encodes, and the cache they are found in.

At the start of an epoch, or every `refresh_every` steps, all cached means are encoded anew. A step
writes the current means of its images to the cache, searches the neighbours of each without itself,
re-encodes the union of them with gradients, and writes that back too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from genfast.models.latent import ExemplarCache, ExemplarVAE
from genfast.models.latent.exemplar_vae import ENCODED_AT_ONCE
from genfast.training.batches import Batches, Part, noise_seed, take_batch
from genfast.training.config import TrainConfig
from genfast.training.distributed import Processes
from genfast.training.latent_step import LatentStep
from genfast.training.model_images import to_model
from genfast.training.objectives import StepFigures
from genfast.training.settings import ConfigError

_EXEMPLARS = 2**31 + 2  # numbers the draw of a step's exemplars, out of the way of its parts
_CACHE = "cache."


class ExemplarStep(LatentStep):
    """A `LatentStep` under the mixture of the exemplars that a step re-encodes.

    All processes find the same exemplars; each holds and searches a part of the cache.
    """

    def __init__(
        self,
        model: ExemplarVAE,
        config: TrainConfig,
        processes: Processes,
        total_steps: int,
        batches: Batches,
    ) -> None:
        count = len(batches.data.train)
        if count < 2:
            raise ConfigError(f"data: an Exemplar VAE needs at least 2 training images, got {count}")
        if len(model.exemplar_means) != count:
            # Before an average copies the model: its buffers have to be of this size already.
            device = model.encoder_mean.weight.device
            model.exemplar_means = torch.zeros(count, model.latent_dim, device=device)
            model.exemplar_ids = torch.arange(count, device=device)
        super().__init__(model, config, processes, total_steps)
        self.batches = batches
        group = dist.group.WORLD if processes.world_size > 1 else None
        #: None for a model that searches no neighbours.
        self.cache: ExemplarCache | None = None
        if model.neighbours:
            self.cache = ExemplarCache(
                count, model.latent_dim, model.index, processes.device, group=group
            )
        self.step = 0
        self._packed: dict[str, Tensor] = {}
        self._settled: dict[int, int] = {}
        self._terms: dict[str, Any] = {}
        self._searched: tuple[Tensor, Tensor] | None = None

    def __call__(self, parts: Sequence[Part]) -> StepFigures:
        union, searched = self.choose()
        model, device = self.model, self.processes.device
        self._terms = {
            "exemplars": self.images(union, self.step // self.batches.steps_per_epoch),
            "exemplar_ids": union,
            "means_out": torch.empty(len(union), model.latent_dim, device=device),
        }
        self._searched = searched if model.normaliser == "bound" else None
        figures = super().__call__(parts)
        if self.cache is not None:
            self.cache.update(union, self._terms["means_out"], self.step)
        self._terms = {}
        self.step += 1
        return figures

    def terms(self, part: Part) -> dict[str, Any]:
        searched = None
        if self._searched is not None:
            numbers, counts = self._searched
            searched = counts[torch.searchsorted(numbers, part.numbers)]
        return {**super().terms(part), **self._terms, "ids": part.numbers, "searched": searched}

    def choose(self) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The exemplars of the next step, and of what number of others each image's were chosen.

        -> their ids (M,), and the step's images in order with that number for each; None where the
        exemplars were not chosen by search.
        """
        model, count = self.model, len(self.batches.data.train)
        device = self.processes.device
        within = self._drawn(count)
        if self.cache is None:
            return (torch.arange(count) if within is None else within).to(device), None
        epoch, position = divmod(self.step, self.batches.steps_per_epoch)
        due = self.step % model.refresh_every == 0 if model.refresh_every else position == 0
        if due:
            self.cache.refresh(self.encoded(self.cache.rows, epoch), self.step)
        batch = torch.from_numpy(np.sort(self.batches.index(self.step))).to(device)
        means = model.encode_all(self.images(batch, epoch))
        self.cache.update(batch, means, self.step)
        others = torch.full((len(batch),), count - 1, device=device)
        if within is not None:
            within = within.unique().to(device)
            others = len(within) - torch.isin(batch, within).long()
        found = self.cache.search(means, model.neighbours, exclude=batch, within=within)
        return found[found >= 0].unique(), (batch, others.clamp(min=1))

    def settle(self, *models: Any) -> None:
        """Encode all exemplars with the weights as they are, and put the cache together to be saved."""
        for model in models:
            if self._settled.get(id(model)) != self.step:
                self._encode_exemplars(model)
                self._settled[id(model)] = self.step
        if self.cache is not None and self.cache.filled:
            self._packed = self.cache.gather()

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().pack()
        return {**tensors, **{_CACHE + name: part for name, part in self._packed.items()}}, values

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any], step: int) -> None:
        cached = {
            name.removeprefix(_CACHE): part for name, part in tensors.items() if name.startswith(_CACHE)
        }
        super().unpack({k: v for k, v in tensors.items() if not k.startswith(_CACHE)}, values, step)
        self.step = step
        if self.cache is not None and cached:
            self.cache.restore(cached)

    def images(self, ids: Tensor, epoch: int) -> Tensor:
        """The training images with these numbers, as they are drawn in an epoch: (M,C,H,W) in [0, 1]."""
        images, _ = take_batch(self.batches.data, ids.cpu().numpy(), epoch, self.config)
        return to_model(self.model, images.to(self.processes.device))

    def encoded(self, rows: range, epoch: int) -> Tensor:
        """The means of these training images, as they are drawn in an epoch: (len(rows), D)."""
        parts = [
            self.model.encode_all(
                self.images(torch.arange(start, min(start + ENCODED_AT_ONCE, rows.stop)), epoch)
            )
            for start in range(rows.start, rows.stop, ENCODED_AT_ONCE)
        ]
        empty = torch.zeros(0, self.model.latent_dim, device=self.processes.device)
        return torch.cat(parts) if parts else empty

    def _drawn(self, count: int) -> Tensor | None:
        """The random exemplars of a step, with replacement as published; None for all there are."""
        if not self.model.exemplars_per_step:
            return None
        generator = np.random.default_rng(noise_seed(self.config.seed, self.step, _EXEMPLARS))
        return torch.from_numpy(generator.integers(0, count, self.model.exemplars_per_step))

    def _encode_exemplars(self, model: ExemplarVAE) -> None:
        """Set `model.exemplar_means`: each process encodes a part of the images as they are stored."""
        stored, rank, world = (
            self.batches.data.train.images,
            self.processes.rank,
            self.processes.world_size,
        )
        count = len(stored)
        start, stop = count * rank // world, count * (rank + 1) // world
        means = torch.zeros_like(model.exemplar_means)
        for first in range(start, stop, ENCODED_AT_ONCE):
            part = slice(first, min(first + ENCODED_AT_ONCE, stop))
            images = to_model(model, stored[part].to(self.processes.device))
            means[part] = model.encode_all(images)
        model.exemplar_means.copy_(self.processes.all_reduce_sum(means))
