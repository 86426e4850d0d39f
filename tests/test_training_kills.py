"""kill -9 at random moments: the run goes on from what was saved, to the same bits."""

from __future__ import annotations

import contextlib
import csv
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from training_runs import assert_same_run, config, start

from genfast.training import BEST, CHECKPOINT, Trainer

# Saves after every step, and keeps everything that a run can keep.
SETTINGS: dict[str, Any] = {
    "checkpoint_minutes": 0.0,
    "ema": 0.9,
    "clip_norm": 1.0,
    "schedule": "cosine",
    "warmup_steps": 5,
    "early_stopping": 100,
    "accumulate": 2,
}


def life(run_dir: Path, settings: dict[str, Any], saved: Connection) -> None:
    """What a user's process does: starts the run or goes on with it; reports each step it has saved."""
    torch.set_num_threads(1)
    if (run_dir / CHECKPOINT).exists():
        trainer = Trainer.resume(run_dir, quiet=True)
    else:
        trainer = Trainer.start(config(**settings), run_dir, quiet=True)
    save = trainer.save

    def save_and_report() -> None:
        save()
        saved.send(trainer.step)

    trainer.save = save_and_report  # type: ignore[method-assign]
    save_and_report()
    trainer.run()


def live(
    run_dir: Path, settings: dict[str, Any], saves: int | None, seconds: float
) -> tuple[int | None, list[int]]:
    """One life, killed `seconds` after so many saves, or never -> its exit code, the steps it saved."""
    reader, writer = forked.context().Pipe(duplex=False)
    process = forked.context().Process(target=life, args=(run_dir, settings, writer))
    process.start()
    writer.close()
    steps = []
    with reader, contextlib.suppress(EOFError):
        while len(steps) != saves:
            steps.append(reader.recv())
        time.sleep(seconds)
        process.kill()
        while True:  # what it saved in those seconds
            steps.append(reader.recv())
    process.join()
    return process.exitcode, steps


def losses_in(path: Path) -> list[tuple[str, str]]:
    with path.open() as file:
        return [(row["train_loss"], row["validation_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("kills", "epochs"), [(5, 6), pytest.param(50, 60, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_is_the_same_to_the_bit(
    tmp_path: Path, kills: int, epochs: int
) -> None:
    settings = {**SETTINGS, "epochs": epochs}
    chance = random.Random(0)
    done = 0
    for number in range(kills):
        # While it starts or opens the checkpoint; or some steps later, in the midst of anything.
        start_up = number % 5 == 4
        moment = (
            (0, chance.uniform(0, 0.2)) if start_up else (chance.randint(1, 8), chance.uniform(0, 0.04))
        )
        code, steps = live(tmp_path / "run", settings, *moment)
        assert code == -signal.SIGKILL
        if steps:
            assert steps[0] >= done, "a step that had been saved was lost"
            assert steps == sorted(steps)
            done = steps[-1]
    assert done > kills
    code, steps = live(tmp_path / "run", settings, None, 0)
    assert code == 0
    assert steps[0] >= done
    resumed = Trainer.resume(tmp_path / "run", quiet=True)
    uninterrupted = start(tmp_path / "whole", **{**settings, "checkpoint_minutes": 2.0})
    assert uninterrupted.run()
    assert resumed.step == uninterrupted.step == 10 * epochs
    assert_same_run(uninterrupted, resumed)
    assert uninterrupted.history.validation == resumed.history.validation
    assert losses_in(tmp_path / "run/metrics.csv") == losses_in(tmp_path / "whole/metrics.csv")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {CHECKPOINT, BEST, "config.toml", "metrics.csv"}  # and no leftovers
