"""What training runs came to, from their checkpoints' descriptions; no weights are read."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import dataclass
from pathlib import Path

from genfast.training.budget import is_done
from genfast.training.checkpoint import CHECKPOINT, CheckpointError, read_checkpoint
from genfast.training.config import TrainConfig
from genfast.training.config_files import CONFIG
from genfast.training.history import History

#: What is in a run's folder even if its checkpoint has been lost.
_REMAINS = {CONFIG, "metrics.csv"}


@dataclass(frozen=True)
class Figures:
    """What a checkpoint says of its run. `best` and `last` are validation figures in `unit`.

    None stands for what was not measured. `state` is "finished" if all epochs or steps asked for
    are done or early stopping ended them, else "unfinished": the run goes on, was interrupted, or
    its time was up.
    """

    model: str
    data: str
    levels: int
    steps: int
    epochs: float
    best: float | None
    last: float | None
    unit: str
    images_per_second: float | None
    state: str


@dataclass(frozen=True)
class RunSummary:
    """A run's folder, seen from `list_runs`'s.

    `figures` is None if the run is broken: `error` then says how. `bytes` is the size of all its
    files, `when` the time of its last change, ISO 8601.
    """

    run: str
    figures: Figures | None
    error: str | None
    bytes: int
    when: str


def list_runs(folder: str | Path) -> list[RunSummary]:
    """The runs in `folder`, at any depth, sorted by their path; broken ones are listed as such.

    Raises `NotADirectoryError` if there is no such folder.

    >>> import tempfile
    >>> list_runs(tempfile.mkdtemp())
    []
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    runs = []
    for path, _, names in os.walk(folder):
        if CHECKPOINT in names or set(names) >= _REMAINS:
            runs.append(Path(path))
    return sorted((_summarise(run, folder) for run in runs), key=lambda summary: summary.run)


def _summarise(run: Path, folder: Path) -> RunSummary:
    figures, error = None, None
    try:
        figures = read_figures(run / CHECKPOINT)
    except (CheckpointError, OSError) as raised:
        error = str(raised).removeprefix(f"{run}{os.sep}")
    size, changed = _size_and_time(run)
    when = datetime.datetime.fromtimestamp(changed).astimezone().isoformat(timespec="seconds")
    # A folder that is itself a run goes by its name: "." would tell nothing.
    name = str(run.relative_to(folder)) if run != folder else str(run)
    return RunSummary(name, figures, error, size, when)


def read_figures(path: Path) -> Figures:
    """The figures of the run with this checkpoint. Raises `CheckpointError`."""
    checkpoint = read_checkpoint(path, "history.")
    try:
        config = TrainConfig.from_dict(checkpoint.description["config"])
        images = checkpoint.description["data"]["train"]
        levels = checkpoint.description["data"]["levels"]
        history = History.from_tensors(checkpoint.part("history"))
        unit = str(checkpoint.description["unit"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: its model, settings or history are not of this genfast ({error})"
        raise CheckpointError(message) from error
    steps, steps_per_epoch = len(history.losses), math.ceil(images / config.batch_size)
    seconds = history.seconds[-1] if steps else 0.0
    validation = history.validation
    return Figures(
        model=config.model,
        data=config.data,
        levels=levels,
        steps=steps,
        epochs=steps / steps_per_epoch,
        best=min(validation.values(), default=None),
        last=validation[max(validation)] if validation else None,
        unit=unit,
        images_per_second=steps / steps_per_epoch * images / seconds if seconds > 0 else None,
        state="finished" if is_done(config, history, steps_per_epoch) else "unfinished",
    )


def _size_and_time(run: Path) -> tuple[int, float]:
    """Bytes of all files of a run, and when the last one of them was changed."""
    size, changed = 0, run.stat().st_mtime
    for path, _, names in os.walk(run):
        for name in names:
            found = os.lstat(os.path.join(path, name))
            size, changed = size + found.st_size, max(changed, found.st_mtime)
    return size, changed
