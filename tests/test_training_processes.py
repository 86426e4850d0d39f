"""Several processes: two that share a batch are one that has all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from joined import hear, two
from training_runs import config, start

from genfast.data import load
from genfast.training import ConfigError, Processes, Trainer, open_run
from genfast.training.batches import Batches
from genfast.training.checkpoint import Checkpoint

COMMAND = ["gated-pixelcnn", "--channels", "4", "--layers", "2", "--device", "cpu"]
OPTIONS = [*COMMAND, "--levels", "2", "--conditional", "--batch-size", "120", "--sample-every", "0"]


def torchrun(processes: int, *arguments: str) -> tuple[int, str]:
    """`torchrun --nproc-per-node N -m genfast ...` -> its exit code, all that was printed."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "genfast", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def losses(run_dir: Path) -> np.ndarray[Any, Any]:
    return open_run(run_dir).checkpoint.tensors["history.losses"].numpy()


def largest_difference(run: Checkpoint, other: Checkpoint, part: str) -> float:
    pairs = zip(run.part(part).values(), other.part(part).values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """One process, on all of each batch; 1199 images, so steps are of 119 or 120."""
    trainer = start(tmp_path_factory.mktemp("alone"), ema=0.8, clip_norm=0.5)
    assert trainer.run()
    return trainer


def test_two_processes_equal_one_and_can_be_resumed_by_one(tmp_path: Path, alone: Trainer) -> None:
    """Each of the two takes 60 or 59 of the 119 or 120 images."""
    settings = ["--ema", "0.8", "--clip-norm", "0.5", "--lr", "0.01", "--seed", "7", "--epochs", "2"]
    out = tmp_path / "run"
    code, output = torchrun(
        2, "train", *OPTIONS, *settings, "--max-steps", "13", "--out", str(out), "--tensorboard"
    )
    assert code == 0, output
    assert output.count("epoch 1, step 10") == 1  # one of them speaks
    assert output.count("run: ") == 1
    assert len(list((out / "tensorboard").iterdir())) == 1  # and writes
    np.testing.assert_allclose(losses(out), alone.history.losses[:13], rtol=1e-6)
    resumed = Trainer.resume(out, quiet=True, max_steps=20)
    assert resumed.step == 13
    assert resumed.run()
    np.testing.assert_allclose(losses(out), alone.history.losses, rtol=1e-6)
    both = open_run(out).checkpoint, open_run(alone.run_dir).checkpoint
    for part in ("model", "ema"):
        assert largest_difference(*both, part) < 1e-5
    assert resumed.history.validation[20] == pytest.approx(alone.history.validation[20], rel=1e-6)


def test_the_recorded_loss_is_the_mean_over_all_images(alone: Trainer) -> None:
    """Of the first step, at the weights the run begins with, one image at a time."""
    torch.manual_seed(7)
    fresh = type(alone.model)(**alone.model.config)
    index = torch.from_numpy(alone.batches.index(0))
    images, labels = alone.data.train.images[index].long(), alone.data.train.labels
    assert labels is not None
    each = [
        fresh.loss(image[None], label[None]).item()
        for image, label in zip(images, labels[index], strict=True)
    ]
    assert alone.history.losses[0] == pytest.approx(np.mean(each), rel=1e-6)


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (2, 3), (3, 2), (12, 10)])
def test_parts_share_out_every_step(world_size: int, accumulate: int) -> None:
    data = load("digits", levels=2)
    settings = config(accumulate=accumulate)
    device = torch.device("cpu")
    everyone = [
        Batches(data, settings, Processes(device, rank, world_size)) for rank in range(world_size)
    ]
    for step in (0, 9, 10):
        parts = [part for batches in everyone for part in batches.parts(step)]
        assert len(parts) == world_size * accumulate
        assert sum(part.share for part in parts) == pytest.approx(1)
        index = everyone[0].index(step)
        assert [len(index) * part.share for part in parts if part.share] == pytest.approx(
            [len(part.images) for part in parts if part.share]
        )
        seen = torch.cat([part.images for part in parts if part.share]).sum(0)
        assert torch.equal(seen, data.train.images[torch.from_numpy(index)].long().sum(0))
        assert len({part.seed for part in parts}) == len(parts)


def test_more_parts_than_images_change_nothing(tmp_path: Path) -> None:
    """The last part of a step may be empty: it then computes an image that counts nothing."""
    path = tmp_path / "few.npz"
    images = np.random.default_rng(0).integers(0, 256, (43, 4, 4), dtype=np.uint8)
    np.savez(path, images=images)
    few: dict[str, Any] = {"data": str(path), "conditional": False, "batch_size": 3}
    batches = Batches(load(str(path)), config(**few, accumulate=3), Processes.alone("cpu"))
    shares = {tuple(part.share for part in batches.parts(step)) for step in range(20)}
    assert shares == {(1 / 2, 1 / 2, 0.0), (1 / 3, 1 / 3, 1 / 3)}
    runs = [start(tmp_path / name, **few, accumulate=int(name), max_steps=20) for name in "13"]
    for run in runs:
        assert run.run()
    np.testing.assert_allclose(*(run.history.losses for run in runs), rtol=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_an_error() -> None:
    processes = Processes(torch.device("cpu"), 0, 2)
    message = "batch_size: must be divisible by the 2 processes times accumulate 3, got 64"
    with pytest.raises(ConfigError, match=message):
        Batches(load("digits"), config(batch_size=64, accumulate=3), processes)


def failing(tell: Callable[[Any], None], processes: Processes, broken: int, out: Path) -> None:
    """Number `broken` of the two fails: 1 in its third step, 0 as it writes."""

    def fail(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device", "there")

    trainer = Trainer.start(config(), out, quiet=True, processes=processes)
    take = trainer.batches.parts
    if processes.rank == broken == 1:
        trainer.batches.parts = lambda step: fail() if step == 2 else take(step)  # type: ignore
    if processes.rank == broken == 0:
        trainer._write = fail  # type: ignore[method-assign]
    trainer.run()


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_on_one_process_ends_all(tmp_path: Path, broken: int) -> None:
    both, readers = two(failing, broken, tmp_path)
    told = [hear(reader) for reader in readers]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    full = "OSError(28, 'No space left on device')"
    assert told[broken] == full
    if broken == 0:  # the error of the one that writes is everyone's
        assert told[1] == full
    assert Trainer.resume(tmp_path, quiet=True).step == 0


def interrupted(tell: Callable[[Any], None], processes: Processes, out: Path) -> None:
    trainer = Trainer.start(config(epochs=100_000), out, quiet=True, processes=processes)
    step = trainer.log.step

    def step_and_tell(number: int, *rest: Any) -> None:
        step(number, *rest)
        if number == 5:
            tell("begun")

    trainer.log.step = step_and_tell  # type: ignore[method-assign]
    tell((trainer.run(), trainer.step))


def test_ctrl_c_on_one_process_stops_all_at_one_step(tmp_path: Path) -> None:
    both, readers = two(interrupted, tmp_path)
    assert [hear(reader) for reader in readers] == ["begun", "begun"]
    assert both[1].pid is not None
    os.kill(both[1].pid, signal.SIGINT)  # not the one that writes
    told = [hear(reader) for reader in readers]
    assert told[0] == told[1]
    finished, step = told[0]
    assert not finished
    assert len(losses(tmp_path)) == step >= 5
