"""The training loop: from a `TrainConfig` to a run's folder, and on from there after a stop.

A run's folder holds config.json, metrics.csv, checkpoint.safetensors and samples/step-*.png.
All that decides the next step (weights, optimiser, generator, step number) is in the checkpoint,
and the data order of an epoch depends on (seed, epoch) alone; so a resumed run takes the very
steps that an uninterrupted one would have taken.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data import ImageData, load
from genfast.data.extras import require
from genfast.models import MODELS
from genfast.training import checkpoint as ckpt
from genfast.training.config import ConfigError, TrainConfig
from genfast.training.evaluate import evaluate
from genfast.training.files import write_json
from genfast.training.history import History
from genfast.training.images import image_grid, save_png
from genfast.training.interrupts import Interrupts
from genfast.training.runs import describe_data, open_run


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what is saved."""


class Trainer:
    """One run. Make it by `Trainer.start` or `Trainer.resume`, then call `run()`.

    >>> import tempfile
    >>> config = TrainConfig(data="digits", channels=4, layers=2, max_steps=2, sample_every=0)
    >>> trainer = Trainer.start(config, tempfile.mkdtemp() + "/run", quiet=True)
    >>> trainer.run()
    True
    >>> len(trainer.history.losses)
    2
    """

    def __init__(
        self, config: TrainConfig, run_dir: Path, data: ImageData, model: Any, quiet: bool
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.data = data
        self.model = model
        self.quiet = quiet
        self.history = History()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
        self.steps_per_epoch = math.ceil(len(data.train) / config.batch_size)
        self._order: tuple[int, list[np.ndarray[Any, Any]]] | None = None

    @classmethod
    def start(
        cls,
        config: TrainConfig,
        run_dir: str | Path,
        *,
        overwrite: bool = False,
        quiet: bool = False,
    ) -> Trainer:
        """A new run in `run_dir`. With `overwrite`, a run that is there is replaced.

        Raises `ConfigError`, `DataError`, and `FileExistsError` if a run is there.
        """
        run_dir = Path(run_dir)
        path = run_dir / ckpt.CHECKPOINT
        if path.exists() and not overwrite:
            raise FileExistsError(
                f"{run_dir} holds a run already: go on with it by --resume, or choose another --out"
            )
        if config.model not in MODELS:
            known = ", ".join(sorted(MODELS))
            raise ConfigError(f"model: unknown {config.model!r}; known are {known}")
        data = load(config.data, config.data_dir, config.levels)
        num_classes = data.num_classes if config.conditional else 0
        if config.conditional and not num_classes:
            raise ConfigError(f"conditional: the data set {data.name} has no labels")
        torch.manual_seed(config.seed)
        model = MODELS[config.model](
            data.image_shape,
            data.levels,
            channels=config.channels,
            layers=config.layers,
            num_classes=num_classes,
        )
        trainer = cls(replace(config, levels=data.levels), run_dir, data, model, quiet)
        trainer.save()  # at once: an unwritable folder shows now, and a run can always be resumed
        for old in (run_dir / "samples").glob("step-*.png"):
            old.unlink()
        return trainer

    @classmethod
    def resume(cls, run_dir: str | Path, *, quiet: bool = False, **changes: Any) -> Trainer:
        """Go on with the run in `run_dir`; `changes` are settings that may change on the way.

        Raises `CheckpointError`, `ConfigError` and `DataError`.
        """
        run = open_run(run_dir, **changes)
        trainer = cls(run.config, run.path.parent, run.load_data(), run.model, quiet)
        try:
            trainer.history = History.from_tensors(run.checkpoint.part("history"))
            ckpt.unpack_optimizer(trainer.optimizer, run.checkpoint)
            torch.set_rng_state(run.checkpoint.tensors["rng.torch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ckpt.CheckpointError(f"{run.path}: cannot be resumed ({error})") from error
        return trainer

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return len(self.history.losses)

    def run(self) -> bool:
        """Train to the end of the budget; False if interrupted by Ctrl-C or SIGTERM.

        Either way a checkpoint of the last step is there. Raises `OSError` when it cannot be
        written; the one before it then still is.
        """
        started = saved = time.monotonic()
        with Interrupts() as interrupts, self._progress() as bar:
            try:
                while True:
                    if self._epoch_has_ended():
                        self._end_epoch()
                        saved = time.monotonic()
                    elif self._budget_is_spent(started):
                        break
                    else:
                        with interrupts.shield():
                            self._train_step(bar)
                        if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                            self.save()
                            saved = time.monotonic()
                self._finish()
            except KeyboardInterrupt:
                self.save()
                return False
        return True

    def save(self) -> None:
        """Write the checkpoint, then what is made from it for people: config.json, metrics.csv."""
        optimizer_tensors, optimizer = ckpt.pack_optimizer(self.optimizer)
        tensors = {
            **ckpt.prefixed("model", self.model.state_dict()),
            **ckpt.prefixed("optimizer", optimizer_tensors),
            **ckpt.prefixed("history", self.history.to_tensors()),
            "rng.torch": torch.get_rng_state(),
        }
        description = {
            "model": ckpt.describe_model(self.model),
            "optimizer": optimizer,
            "config": self.config.to_dict(),
            "data": describe_data(self.data),
        }
        checkpoint = ckpt.Checkpoint(tensors, description)
        ckpt.write_checkpoint(self.run_dir / ckpt.CHECKPOINT, checkpoint)
        write_json(self.run_dir / "config.json", self.config.to_dict())
        rows = self.history.rows(self.config.log_every, len(self.data.train), self.steps_per_epoch)
        self.history.write_csv(self.run_dir / "metrics.csv", rows)

    # -- the parts of the loop ---------------------------------------------------------------------

    def _epoch_has_ended(self) -> bool:
        """All steps of an epoch are done, but its validation is not (or was interrupted)."""
        at_end = self.step > 0 and self.step % self.steps_per_epoch == 0
        return at_end and self.step not in self.history.validation

    def _budget_is_spent(self, started: float) -> bool:
        config = self.config
        minutes = (time.monotonic() - started) / 60
        return (
            self.step >= config.epochs * self.steps_per_epoch
            or (config.max_steps is not None and self.step >= config.max_steps)
            or (config.max_minutes is not None and minutes >= config.max_minutes)
        )

    def _train_step(self, bar: Any) -> None:
        began = time.perf_counter()
        self.model.train()
        index = self._batch_index(self.step)
        images, labels = self._batch(index)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(images, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.step + 1}; a lower learning rate than "
                f"{self.config.lr} may help. {self.run_dir} keeps the last checkpoint"
            )
        loss.backward()
        self.optimizer.step()
        self.history.add_step(value, time.perf_counter() - began)
        bar.set_postfix_str(f"{value:.4f} bits/dim", refresh=False)
        bar.update(len(index))

    def _batch_index(self, step: int) -> np.ndarray[Any, Any]:
        """The images of a step: epoch e runs through a permutation keyed by (seed, e)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng([self.config.seed, epoch])
            order = generator.permutation(len(self.data.train))
            # In parts of equal size (give or take one): no last step on a handful of images.
            self._order = epoch, np.array_split(order, self.steps_per_epoch)
        return self._order[1][position]

    def _batch(self, index: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor | None]:
        chosen, train = torch.from_numpy(index), self.data.train
        given = train.labels if self.config.conditional else None
        labels = None if given is None else given[chosen]
        return train.images[chosen].to(torch.int64), labels

    def _end_epoch(self) -> None:
        self._validate()
        epoch = self.step // self.steps_per_epoch
        if self.config.sample_every and epoch % self.config.sample_every == 0:
            self._draw_samples()
        self.save()

    def _finish(self) -> None:
        """Figures and pictures of the last step, wherever in an epoch it was."""
        if self.step and self.step not in self.history.validation:
            self._validate()
        if self.config.sample_every and not self._samples_path().exists():
            self._draw_samples()
        self.save()

    def _validate(self) -> None:
        result = evaluate(
            self.model,
            self.data.validation,
            labels=self.config.conditional,
            batch_size=self.config.batch_size,
        )
        self.history.validation[self.step] = result.bits_per_dim
        rows = self.history.rows(self.steps_per_epoch, len(self.data.train), self.steps_per_epoch)
        row = rows[-1]
        self._say(
            f"epoch {row['epoch']:g}, step {self.step}: "
            f"train {row['train_bits_per_dim']:.4f}, "
            f"validation {result.bits_per_dim:.4f} bits/dim, "
            f"{row['images_per_second']:.0f} images/s"
        )

    def _samples_path(self) -> Path:
        return self.run_dir / "samples" / f"step-{self.step:08d}.png"

    def _draw_samples(self) -> None:
        self.model.eval()
        classes = self.model.num_classes
        labels = torch.arange(self.config.samples) % classes if classes else None
        images = self.model.sample(self.config.samples, seed=self.config.seed, labels=labels)
        columns = classes if 1 < classes <= 16 else None
        save_png(self._samples_path(), image_grid(images, self.data.levels, columns))

    # -- what people see ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Any]:
        """A bar over images; only where standard error is a terminal."""
        total = self.config.epochs * self.steps_per_epoch
        if self.config.max_steps is not None:
            total = min(total, self.config.max_steps)
        images = len(self.data.train) / self.steps_per_epoch
        with require("tqdm").tqdm(
            total=round(total * images),
            initial=round(self.step * images),
            unit=" images",
            dynamic_ncols=True,
            disable=True if self.quiet else None,
        ) as bar:
            yield bar

    def _say(self, line: str) -> None:
        if not self.quiet:
            require("tqdm").tqdm.write(line)
