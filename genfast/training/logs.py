"""What people see of a run while it goes: a progress bar, lines, and TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genfast.data.extras import require
from genfast.training.objectives import StepFigures


class RunLog:
    """The bar and the lines of a run, in the model's own unit; silent if `quiet`.

    With `tensorboard`, scalars and sample grids also go to that folder, at most every `log_every`
    steps. What TensorBoard has of steps after `step`, from where the run goes on, it then hides.
    """

    def __init__(self, unit: str, *, quiet: bool, tensorboard: Path | None, log_every: int) -> None:
        self.unit, self.quiet, self.log_every = unit, quiet, log_every
        self._folder = tensorboard
        self._bar: Any = None
        self._writer: Any = None
        self._images, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def open(self, step: int, images: int, total_images: int) -> Iterator[None]:
        """Show the bar, at `images` of `total_images`, and open TensorBoard's file."""
        if self._folder is not None:
            require("tensorboard", "tensorboard")  # torch's own module names no extra
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)
        # Only where standard error is a terminal.
        self._bar = require("tqdm").tqdm(
            total=total_images,
            initial=images,
            unit=" images",
            dynamic_ncols=True,
            disable=True if self.quiet else None,
        )
        try:
            yield
        finally:
            self._bar.close()
            if self._writer is not None:
                self._writer.close()
            self._bar = self._writer = None

    def step(self, step: int, figures: StepFigures, images: int, seconds: float) -> None:
        """A step was taken, of so many images over all processes."""
        self._bar.set_postfix_str(self._text(figures), refresh=False)
        self._bar.update(images)
        self._images, self._seconds = self._images + images, self._seconds + seconds
        if self._writer is not None and step % self.log_every == 0:
            self._writer.add_scalar("loss/train", figures.loss, step)
            for player, loss in figures.players.items():
                self._writer.add_scalar(f"loss/{player}", loss, step)
            self._writer.add_scalar("learning_rate", figures.learning_rate, step)
            self._writer.add_scalar("gradient_norm", figures.gradient_norm, step)
            self._writer.add_scalar("images_per_second", self._images / self._seconds, step)
            self._images, self._seconds = 0, 0.0

    def _text(self, figures: StepFigures) -> str:
        players = ", ".join(f"{player} {loss:.4f}" for player, loss in figures.players.items())
        return players or f"{figures.loss:.4f} {self.unit}"

    def validation(self, row: dict[str, float]) -> None:
        """The row of metrics.csv that has the validation loss."""
        others = (n for n in row if n.endswith("_loss") and n not in ("train_loss", "validation_loss"))
        players = "".join(f"{n.removesuffix('_loss')} {row[n]:.4f}, " for n in others)
        self.say(
            f"epoch {row['epoch']:g}, step {row['step']:g}: train {row['train_loss']:.4f}, {players}"
            f"validation {row['validation_loss']:.4f} {self.unit}, "
            f"{row['images_per_second']:.0f} images/s"
        )
        if self._writer is not None:
            self._writer.add_scalar("loss/validation", row["validation_loss"], row["step"])

    def samples(self, step: int, picture: Any) -> None:
        """A grid of samples, a `PIL.Image`."""
        if self._writer is not None:
            self._writer.add_image(
                "samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC"
            )

    def flush(self) -> None:
        """Hand what was logged to the disk, so that it is not behind the checkpoint."""
        if self._writer is not None:
            self._writer.flush()

    def say(self, line: str) -> None:
        """One line above the bar."""
        if not self.quiet:
            require("tqdm").tqdm.write(line)
