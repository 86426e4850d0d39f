"""Training of several players by several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adversarial_runs import SMALL, start
from joined import hear, two
from ranks import run_ranks
from training_runs import weights

from genfast.models.adversarial import CycleGAN
from genfast.training import CHECKPOINT, Processes, Trainer, open_run
from genfast.training.adversarial import AdversarialStep
from genfast.training.checkpoint import part_of

CYCLEGAN: dict[str, Any] = {"name": "cyclegan", "model": {"pool": 30}, "ema": 0.9}


def test_two_processes_take_the_steps_of_one_in_two_parts(tmp_path: Path) -> None:
    """The second part's noise is the second process's; its gradients count by its images."""
    alone = start(tmp_path / "alone", "dcgan", accumulate=2, max_steps=12, clip_norm=0.5)
    assert alone.run()
    own = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL["dcgan"].items()]
    run = ["--batch-size=120", "--sample-every=0", "--seed=7", "--max-steps=12", "--clip-norm=0.5"]
    out = tmp_path / "two"
    run_ranks(2, ["train", "dcgan", *own, *run, "--epochs=2", f"--out={out}"])
    both = open_run(out)
    losses = both.checkpoint.tensors["history.losses"].numpy()
    np.testing.assert_allclose(losses, alone.history.losses, rtol=1e-4)
    for key, tensor in weights(alone).items():
        if "running" not in key and "tracked" not in key:
            torch.testing.assert_close(tensor, both.model.state_dict()[key], rtol=1e-3, atol=1e-4)


def life(tell: Callable[[Any], None], processes: Processes, out: Path, save_often: bool) -> None:
    """Starts the run or goes on with it; tells the step of each checkpoint, and at the end that."""
    if (out / CHECKPOINT).exists():
        trainer = Trainer.resume(out, quiet=True, processes=processes)
    else:
        minutes = 0.0 if save_often else 2.0
        trainer = start(out, **CYCLEGAN, checkpoint_minutes=minutes, processes=processes)
    save = trainer.save

    def save_and_tell() -> None:
        save()
        tell(trainer.step)

    trainer.save = save_and_tell  # type: ignore[method-assign]
    assert trainer.run()
    tell("ended")


def live(out: Path, *, save_often: bool, kill_at: int | None = None) -> None:
    both, readers = two(life, out, save_often)
    while (told := hear(readers[0])) not in (kill_at, "ended"):
        assert isinstance(told, int), told
    if kill_at is not None:
        for process in both:
            process.kill()
    for process in both:
        process.join(60)
        assert (process.exitcode == 0) == (kill_at is None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, 20 steps."""
    out = tmp_path_factory.mktemp("uninterrupted")
    live(out, save_often=False)
    return out


def test_two_killed_processes_go_on_with_their_image_pools_to_the_bit(
    tmp_path: Path, uninterrupted: Path
) -> None:
    live(tmp_path, save_often=True, kill_at=7)
    at_kill = open_run(tmp_path).checkpoint.tensors
    assert len(at_kill["history.losses"]) >= 7
    live(tmp_path, save_often=True)
    whole, killed = (open_run(out).checkpoint.tensors for out in (uninterrupted, tmp_path))
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]) or name == "history.seconds", name
    for name in ("pool_a", "pool_b"):
        of_all = [part_of(whole, f"{part}.{name}") for part in ("model", "objective.process-1")]
        assert [int(pool["filled"]) for pool in of_all] == [30, 30]
        assert not torch.equal(*(pool["images"] for pool in of_all))
        assert not torch.equal(at_kill[f"model.{name}.images"], of_all[0]["images"])  # it was used


@pytest.mark.parametrize(("rank", "source"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_more_processes_begin_with_the_pools_that_there_are(
    uninterrupted: Path, rank: int, source: int
) -> None:
    run = open_run(uninterrupted)
    gathered = run.checkpoint.part("objective")
    own = [run.checkpoint.part("model"), part_of(gathered, "process-1")][source]
    model = CycleGAN(**run.model.config)
    model.load_state_dict(run.checkpoint.part("model"))
    step = AdversarialStep(model, run.config, Processes(torch.device("cpu"), rank, 4), 20)
    step.unpack(gathered, run.checkpoint.description["objective"], 20)
    for name in ("pool_a", "pool_b"):
        assert torch.equal(getattr(model, name).images, own[f"{name}.images"])
