"""The training loop: from a `TrainConfig` to a run's folder, and on from there after a stop.

A run's folder holds config.toml, metrics.csv, checkpoint.safetensors and samples/step-*.png, with
early stopping best.safetensors, and with TensorBoard tensorboard/. All that decides the next step
(weights, what the optimiser has gathered, step number) is in the checkpoint; data order, noise and
learning rate are functions of the seed and the step number. So a resumed run takes the very steps
that an uninterrupted one would have taken.

Under torchrun every process runs this same loop. They agree on when to stop, rank 0 writes the
files and speaks, and an error while it does so is raised on all.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genfast.data import ImageData
from genfast.models.adversarial import AdversarialModel
from genfast.training import checkpoint as ckpt
from genfast.training.adversarial import held_out
from genfast.training.batches import Batches, load_data, noise_seed
from genfast.training.budget import is_done, planned_steps
from genfast.training.config import TrainConfig
from genfast.training.config_files import CONFIG, write_config
from genfast.training.distributed import Processes
from genfast.training.evaluate import evaluate
from genfast.training.files import remove_leftovers
from genfast.training.grids import reconstruction_grid, sample_grid
from genfast.training.history import History
from genfast.training.images import save_png
from genfast.training.initial import initialise
from genfast.training.interrupts import Interrupts
from genfast.training.logs import RunLog
from genfast.training.model_images import validation_score
from genfast.training.objectives import NotFinite
from genfast.training.runs import describe_data, make_model, open_run
from genfast.training.state import RunState
from genfast.training.steps import make_step
from genfast.training.weights import Average

_VALIDATION = 2**31  # numbers the noise of validation, out of the way of the parts of a step


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what is saved."""


class Trainer:
    """One run. Make it by `Trainer.start` or `Trainer.resume`, then call `run()`.

    >>> import tempfile
    >>> small = {"channels": 4, "layers": 2}
    >>> config = TrainConfig(data="digits", model_settings=small, max_steps=2, sample_every=0)
    >>> trainer = Trainer.start(config, tempfile.mkdtemp() + "/run", quiet=True)
    >>> trainer.run()
    True
    >>> len(trainer.history.losses)
    2
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        data: ImageData,
        model: Any,
        processes: Processes,
        quiet: bool,
    ) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config = config
        self.run_dir = run_dir
        self.data = data
        self.model = model.to(processes.device)
        self.processes = processes
        self.batches = Batches(data, config, processes)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.objective = make_step(model, config, processes, self.batches)
        self.average = Average(model, config.ema) if config.ema else None
        self.state = RunState(model, self.objective, self.average)
        self._data_description = describe_data(data)
        main = processes.is_main
        self.log = RunLog(
            model.unit,
            quiet=quiet or not main,
            tensorboard=run_dir / "tensorboard" if config.tensorboard and main else None,
            log_every=config.log_every,
        )

    @classmethod
    def start(
        cls,
        config: TrainConfig,
        run_dir: str | Path,
        *,
        overwrite: bool = False,
        quiet: bool = False,
        processes: Processes | None = None,
    ) -> Trainer:
        """A new run in `run_dir`. With `overwrite`, a run that is there is replaced.

        Raises `ConfigError`, `DataError`, and `FileExistsError` if a run is there.
        """
        processes = processes or Processes.alone(config.device)
        run_dir = Path(run_dir)
        path = run_dir / ckpt.CHECKPOINT
        if processes.broadcast(path.exists()) and not overwrite:
            raise FileExistsError(
                f"{run_dir} holds a run already: go on with it by --resume, or choose another --out"
            )
        data = load_data(config)
        model = make_model(config, data)
        # What was left to the data and the machine is settled, so that resuming finds the same.
        threads = config.threads or torch.get_num_threads()
        config = replace(config, levels=data.levels, threads=threads)
        torch.set_num_threads(threads)
        initialise(model, Batches(data, config, processes))
        trainer = cls(config, run_dir, data, model, processes, quiet)
        trainer.save()  # at once: an unwritable folder shows now, and a run can always be resumed
        if processes.is_main:
            for pattern in (ckpt.BEST, "samples/step-*.png", "tensorboard/events.*", ".*.tmp"):
                for old in run_dir.glob(pattern):
                    old.unlink()
        return trainer

    @classmethod
    def resume(
        cls,
        run_dir: str | Path,
        *,
        quiet: bool = False,
        processes: Processes | None = None,
        **changes: Any,
    ) -> Trainer:
        """Go on with the run in `run_dir`; `changes` are settings that may change on the way.

        Raises `CheckpointError`, `ConfigError` and `DataError`.
        """
        run = open_run(run_dir, **changes)
        processes = processes or Processes.alone(run.config.device)
        trainer = cls(run.config, run.path.parent, run.load_data(), run.model, processes, quiet)
        trainer.state.unpack(run.checkpoint, run.path)
        if processes.is_main:
            for folder in (trainer.run_dir, trainer.run_dir / "samples"):
                remove_leftovers(folder)
        return trainer

    @property
    def history(self) -> History:
        """The losses of the steps so far, and the validation figures."""
        return self.state.history

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.state.step

    @property
    def evaluated(self) -> Any:
        """The model to evaluate and to sample from: with averaged weights, if there are any."""
        return self.state.evaluated

    def run(self) -> bool:
        """Train to the end of the budget; False if interrupted by Ctrl-C or SIGTERM.

        Either way a checkpoint of the last step is there. Raises `TrainingError`, and `OSError` when
        it cannot be written; the one before it then still is.
        """
        images = len(self.data.train) / self.steps_per_epoch
        shown = (
            round(self.step * images),
            round(planned_steps(self.config, self.steps_per_epoch) * images),
        )
        with Interrupts() as interrupts, self.log.open(self.step, *shown):
            try:
                # One of several processes cannot leave when it likes: the others would wait for it.
                alone = self.processes.world_size == 1
                with contextlib.nullcontext() if alone else interrupts.shield():
                    self._loop(interrupts)
            except KeyboardInterrupt:
                self.save()
                return False
        return True

    def save(self) -> None:
        """Write the checkpoint, then what is made from it for people: config.toml, metrics.csv."""
        self.objective.settle(self.model, self.evaluated)
        checkpoint = self.state.pack(self.config, self._data_description)
        self.processes.on_main(lambda: self._write(checkpoint))

    # -- the parts of the loop ---------------------------------------------------------------------

    def _loop(self, interrupts: Interrupts) -> None:
        started = saved = time.monotonic()
        while True:
            if self._epoch_has_ended():
                self._end_epoch()
                saved = time.monotonic()
                continue
            now, main = time.monotonic(), self.processes.is_main
            minutes = math.inf if self.config.max_minutes is None else self.config.max_minutes
            interrupted, late, save = self.processes.any(
                interrupts.take(),
                main and now - started >= 60 * minutes,
                main and now - saved > 60 * self.config.checkpoint_minutes,
            )
            if interrupted:
                raise KeyboardInterrupt
            if save:
                self.save()
                saved = time.monotonic()
            if late or is_done(self.config, self.history, self.steps_per_epoch):
                break
            alone = self.processes.world_size == 1
            with interrupts.shield() if alone else contextlib.nullcontext():
                self._take_step()
        self._finish()
        if self.processes.any(interrupts.take())[0]:
            raise KeyboardInterrupt

    def _epoch_has_ended(self) -> bool:
        """All steps of an epoch are done, but its validation is not (or was interrupted)."""
        at_end = self.step > 0 and self.step % self.steps_per_epoch == 0
        return at_end and self.step not in self.history.validation

    def _take_step(self) -> None:
        began = time.perf_counter()
        parts = self.batches.parts(self.step)
        images = len(self.batches.index(self.step))
        try:
            figures = self.objective(parts)
        except NotFinite as error:
            raise TrainingError(
                f"{error} at step {self.step + 1}; a lower learning rate than {self.config.lr} may "
                f"help. {self.run_dir} keeps the last checkpoint"
            ) from error
        if self.average is not None:
            self.average.update(self.model)
        seconds = time.perf_counter() - began
        self.history.add_step(figures.loss, seconds, figures.players)
        self.log.step(self.step, figures, images, seconds)

    def _end_epoch(self) -> None:
        self.objective.settle(self.evaluated)
        self._validate()
        epoch = self.step // self.steps_per_epoch
        if self.config.sample_every and epoch % self.config.sample_every == 0:
            self.processes.on_main(self._draw_samples)
        self.save()

    def _finish(self) -> None:
        """Figures and pictures of the last step, wherever in an epoch it was."""
        self.objective.settle(self.evaluated)
        if self.step and self.step not in self.history.validation:
            self._validate()
        missing = self.processes.broadcast(not self._samples_path().exists())
        if self.config.sample_every and missing:
            self.processes.on_main(self._draw_samples)
        self.save()

    def _validate(self) -> None:
        adversarial = isinstance(self.model, AdversarialModel)
        measure: Any = held_out if adversarial else evaluate
        result = measure(
            self.evaluated,
            self.data.validation,
            labels=self.config.conditional,
            batch_size=self.config.batch_size,
            processes=self.processes,
            seed=noise_seed(self.config.seed, self.step, _VALIDATION),
            **({} if adversarial else {"score": validation_score(self.evaluated)}),
        )
        if not math.isfinite(result.mean):
            raise TrainingError(
                f"the validation loss became {result.mean} at step {self.step}; "
                f"{self.run_dir} keeps the last checkpoint"
            )
        self.history.validation[self.step] = result.mean
        self.log.validation(self._rows(self.steps_per_epoch)[-1])

    def _rows(self, every: int) -> list[dict[str, float]]:
        return self.history.rows(every, len(self.data.train), self.steps_per_epoch)

    def _samples_path(self) -> Path:
        return self.run_dir / "samples" / f"step-{self.step:08d}.png"

    def _draw_samples(self) -> None:
        model, count = self.evaluated, self.config.samples
        if hasattr(model, "sample"):
            picture = sample_grid(model, count, self.config.seed, self.data.validation)
        else:
            picture = reconstruction_grid(model, self.data.validation, count)
        save_png(self._samples_path(), picture)
        self.log.samples(self.step, picture)

    def _write(self, checkpoint: ckpt.Checkpoint) -> None:
        # The best one first: should the program end in between, the resumed run writes it again.
        best = self.history.best_epoch(self.steps_per_epoch)
        if self.config.early_stopping and best and self.step == best * self.steps_per_epoch:
            ckpt.write_checkpoint(self.run_dir / ckpt.BEST, checkpoint)
        ckpt.write_checkpoint(self.run_dir / ckpt.CHECKPOINT, checkpoint)
        write_config(self.run_dir / CONFIG, self.config)
        self.history.write_csv(self.run_dir / "metrics.csv", self._rows(self.config.log_every))
        self.log.flush()
