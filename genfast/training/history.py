"""What happened in a run: the loss of every step, and the validation figures; and its CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from genfast.training.files import write_atomically

COLUMNS = (
    "step",
    "epoch",
    "train_loss",
    "validation_loss",
    "images_per_second",
    "training_seconds",
)


@dataclass
class History:
    """The record of a run. It lives in the checkpoint; metrics.csv is made from it.

    `losses[i]` is the loss of step i+1, `seconds[i]` the time spent in steps so far,
    `validation[step]` the validation loss after that step; losses are in the model's own unit.
    `players` has the losses of each player of a model with several, NaN where it did not move.

    >>> history = History()
    >>> history.add_step(loss=3.0, seconds=0.5)
    >>> history.add_step(loss=2.0, seconds=0.5)
    >>> history.validation[2] = 2.25
    >>> [row["train_loss"] for row in history.rows(log_every=1, images_per_epoch=8,
    ...                                                    steps_per_epoch=2)]
    [3.0, 2.0]
    """

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    players: dict[str, list[float]] = field(default_factory=dict)

    def add_step(self, loss: float, seconds: float, players: Mapping[str, float] | None = None) -> None:
        """Record one step: its loss, the seconds it took, the losses of the players that moved."""
        players = players or {}
        for player in players.keys() - self.players.keys():
            self.players[player] = [math.nan] * len(self.losses)
        for player, losses in self.players.items():
            losses.append(players.get(player, math.nan))
        self.losses.append(loss)
        self.seconds.append(seconds + (self.seconds[-1] if self.seconds else 0.0))

    def rows(
        self, log_every: int, images_per_epoch: int, steps_per_epoch: int
    ) -> list[dict[str, float]]:
        """Rows for `COLUMNS`: one every `log_every` steps, one at each validation, one at the end.

        The training figure is the mean since the row before; NaN stands for "not measured here". Of a
        model with players there is also `<player>_loss` for each, the mean over the steps it moved in.
        """
        last = len(self.losses)
        steps = {*range(log_every, last + 1, log_every), *self.validation, last} - {0}
        rows = []
        before, seconds_before = 0, 0.0
        for step in sorted(steps):
            count, seconds = step - before, self.seconds[step - 1]
            elapsed = seconds - seconds_before
            images = count * images_per_epoch / steps_per_epoch
            rows.append(
                {
                    "step": step,
                    "epoch": step / steps_per_epoch,
                    "train_loss": math.fsum(self.losses[before:step]) / count,
                    "validation_loss": self.validation.get(step, math.nan),
                    "images_per_second": images / elapsed if elapsed > 0 else math.nan,
                    "training_seconds": seconds,
                    **{f"{p}_loss": _mean(self.players[p][before:step]) for p in sorted(self.players)},
                }
            )
            before, seconds_before = step, seconds
        return rows

    def write_csv(self, path: Path, rows: list[dict[str, float]]) -> None:
        """Write `rows` atomically; what was not measured is left empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = (*COLUMNS, *(f"{player}_loss" for player in sorted(self.players)))
        writer.writerow(columns)
        for row in rows:
            values = (row[column] for column in columns)
            writer.writerow("" if math.isnan(value) else f"{value:.8g}" for value in values)
        write_atomically(path, text.getvalue())

    def to_tensors(self) -> dict[str, Tensor]:
        """The record as float64 tensors, exact."""
        validation = [[step, value] for step, value in self.validation.items()]
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "validation": torch.tensor(validation, dtype=torch.float64).reshape(-1, 2),
            **{
                f"players.{player}": torch.tensor(losses, dtype=torch.float64)
                for player, losses in self.players.items()
            },
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> History:
        """The record that `to_tensors` gave. Raises `KeyError` or `ValueError` if it is not one."""
        losses, seconds = tensors["losses"].tolist(), tensors["seconds"].tolist()
        validation = {_whole(step): value for step, value in tensors["validation"].tolist()}
        players = {
            name.removeprefix("players."): tensor.tolist()
            for name, tensor in tensors.items()
            if name.startswith("players.")
        }
        lengths = {len(each) for each in (losses, seconds, *players.values())}
        if len(lengths) > 1 or any(not 0 <= s <= len(losses) for s in validation):
            raise ValueError("history has parts of different length")
        if not all(map(math.isfinite, (*losses, *seconds, *validation.values()))):
            raise ValueError("history has a value that is not finite")
        return cls(losses, seconds, validation, players)

    def best_epoch(self, steps_per_epoch: int) -> int | None:
        """The epoch, counted from 1, at whose end the validation loss was least; the first of equals.

        >>> History(validation={10: 3.0, 15: 1.0, 20: 2.0, 30: 2.5}).best_epoch(10)
        2
        """
        ends = [step for step in sorted(self.validation) if step % steps_per_epoch == 0]
        return min(ends, key=self.validation.__getitem__) // steps_per_epoch if ends else None


def _mean(values: list[float]) -> float:
    """Of those that are not NaN; NaN if none is left."""
    there = [value for value in values if not math.isnan(value)]
    return math.fsum(there) / len(there) if there else math.nan


def _whole(step: float) -> int:
    if not step.is_integer():
        raise ValueError(f"history has a step {step}")
    return int(step)
