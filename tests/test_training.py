"""Training: the loop, and exact resumption after any end."""

from __future__ import annotations

import csv
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import TINY, assert_same_run, start, weights

from genfast.data import DataError
from genfast.training import (
    CHECKPOINT,
    CONFIG,
    ConfigError,
    TrainConfig,
    Trainer,
    TrainingError,
    evaluate,
    open_run,
    read_config,
)
from genfast.training.batches import take_batch
from genfast.training.checkpoint import read_checkpoint
from genfast.training.history import COLUMNS


def test_run_leaves_its_folder(tmp_path: Path) -> None:
    trainer = start(tmp_path / "run", sample_every=1, samples=3, log_every=4, epochs=1)
    assert trainer.run()
    names = {str(p.relative_to(tmp_path / "run")) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        "config.toml",
        "metrics.csv",
        CHECKPOINT,
        "samples/step-00000010.png",
    }
    assert TrainConfig.from_dict(read_config(tmp_path / "run" / CONFIG)) == trainer.config
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["4", "8", "10"]
    assert [bool(row["validation_loss"]) for row in rows] == [False, False, True]
    expected = math.fsum(trainer.history.losses[4:8]) / 4
    assert float(rows[1]["train_loss"]) == pytest.approx(expected, rel=1e-7)


def test_training_learns(whole: Trainer) -> None:
    data = whole.data
    assert whole.step == 20
    assert list(whole.history.validation) == [10, 20]
    assert np.mean(whole.history.losses[-5:]) < 0.95 * np.mean(whole.history.losses[:3])
    result = evaluate(whole.model, data.validation, labels=True)
    assert whole.history.validation[20] == pytest.approx(result.bits_per_dim, rel=1e-5)


def test_same_seed_same_run_other_seed_other_run(tmp_path: Path, whole: Trainer) -> None:
    again, other = start(tmp_path / "a"), start(tmp_path / "b", seed=8, epochs=1)
    again.run()
    other.run()
    assert_same_run(whole, again)
    assert other.history.losses != whole.history.losses[:10]


def test_an_epoch_sees_every_image_once_in_steps_of_equal_size(whole: Trainer) -> None:
    count = len(whole.data.train)
    epochs = []
    for epoch in range(2):
        parts = [whole.batches.index(10 * epoch + i) for i in range(10)]
        assert {len(part) for part in parts} <= {119, 120}
        epochs.append(np.concatenate(parts).tolist())
        assert sorted(epochs[-1]) == list(range(count))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("stop", [0, 1, 9, 10, 13])
def test_resumed_run_is_the_same_to_the_bit(tmp_path: Path, whole: Trainer, stop: int) -> None:
    first = start(tmp_path)
    first.config = first.config.continued({"max_steps": stop or None, "epochs": 2})
    if stop:
        first.run()
        assert first.step == stop
    torch.manual_seed(123)  # whatever the process did before
    resumed = Trainer.resume(tmp_path, quiet=True, max_steps=20)
    assert resumed.step == stop
    resumed.run()
    assert_same_run(whole, resumed)
    assert resumed.history.validation[20] == whole.history.validation[20]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    start(tmp_path, epochs=1).run()
    before = read_checkpoint(tmp_path / CHECKPOINT)
    assert Trainer.resume(tmp_path, quiet=True).run()
    after = read_checkpoint(tmp_path / CHECKPOINT)
    assert before.description == after.description
    assert all(torch.equal(t, after.tensors[name]) for name, t in before.tensors.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", ["step", "validation"])
def test_interrupt_saves_whole_steps(
    tmp_path: Path, whole: Trainer, number: int, during: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    trainer = start(tmp_path)
    if during == "step":

        def interrupt(*_: object) -> None:
            if trainer.step == 4:
                signal.raise_signal(number)

        trainer.objective.optimizer.register_step_pre_hook(interrupt)
    else:
        monkeypatch.setattr(trainer, "_validate", lambda: signal.raise_signal(number))
    assert trainer.run() is False
    assert trainer.step == (5 if during == "step" else 10)
    assert signal.getsignal(number) == before
    resumed = Trainer.resume(tmp_path, quiet=True)
    assert resumed.step == trainer.step
    resumed.run()
    assert_same_run(whole, resumed)
    assert list(resumed.history.validation) == [10, 20]  # the one broken off is made up for


def test_time_budget_ends_training_with_a_checkpoint(tmp_path: Path) -> None:
    trainer = start(tmp_path, epochs=10_000, max_minutes=0.01)
    assert trainer.run()
    assert 0 < trainer.step < 10_000 * 10
    assert trainer.step in trainer.history.validation
    assert Trainer.resume(tmp_path, quiet=True).step == trainer.step


def test_loss_that_is_not_a_number_stops_before_it_harms(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    trainer.config = trainer.config.continued({"max_steps": 3})
    trainer.run()
    kept = weights(trainer)
    trainer.config = trainer.config.continued({"max_steps": 9})
    with torch.no_grad():
        next(iter(trainer.model.parameters())).fill_(math.nan)
    with pytest.raises(TrainingError, match="became nan at step 4"):
        trainer.run()
    saved = open_run(tmp_path).model.state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in kept.items())


def test_a_run_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    start(tmp_path, epochs=1, sample_every=1, samples=2).run()
    with pytest.raises(FileExistsError, match="--resume"):
        start(tmp_path)
    fresh = Trainer.start(TrainConfig(**TINY), tmp_path, overwrite=True, quiet=True)
    assert fresh.step == 0
    assert Trainer.resume(tmp_path, quiet=True).step == 0
    assert not list((tmp_path / "samples").iterdir())


def test_unconditional_run_ignores_labels(tmp_path: Path) -> None:
    trainer = start(tmp_path, conditional=False, max_steps=2)
    assert trainer.model.num_classes == 0
    assert trainer.run()


def test_dynamic_binarisation_is_drawn_anew_each_epoch(tmp_path: Path) -> None:
    trainer = start(tmp_path, levels=None, binarise="dynamic", conditional=False)
    data, index = trainer.data, np.arange(40)
    first, again, second = (take_batch(data, index, epoch, trainer.config)[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0, 1}
    assert trainer.model.levels == 2


def test_start_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model: unknown 'pixelcnm'; did you mean pixelcnn or"):
        start(tmp_path, model="pixelcnm")
    distinct = np.arange(36 * 16, dtype=np.uint16).reshape(36, 4, 4).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=distinct)
    with pytest.raises(ConfigError, match=r"conditional: the data set .*a.npz has no labels"):
        start(tmp_path / "run", data=str(tmp_path / "a.npz"))
    with pytest.raises(DataError, match="unknown data set"):
        start(tmp_path / "run", data="nothing")
    assert not (tmp_path / "run").exists()
