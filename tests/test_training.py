"""Training: exact resumption, checkpoints that survive anything, figures that are the exact mean."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.data import DataError, Split, load
from genfast.training import (
    CHECKPOINT,
    CheckpointError,
    ConfigError,
    TrainConfig,
    Trainer,
    TrainingError,
    evaluate,
    image_grid,
    independent_pixels,
    open_run,
    save_png,
)
from genfast.training.checkpoint import read_checkpoint
from genfast.training.evaluate import summarise
from genfast.training.files import write_atomically
from genfast.training.history import COLUMNS, History

# 10 steps an epoch; small enough that a step takes a few milliseconds.
TINY: dict[str, Any] = {
    "data": "digits",
    "levels": 2,
    "channels": 4,
    "layers": 2,
    "batch_size": 120,
    "sample_every": 0,
    "epochs": 2,
    "seed": 7,
    "lr": 1e-2,
    "conditional": True,
}


def start(run_dir: Path, **settings: Any) -> Trainer:
    return Trainer.start(TrainConfig(**{**TINY, **settings}), run_dir, quiet=True)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same_run(trainer: Trainer, other: Trainer) -> None:
    """Equal to the bit: losses of every step, weights, optimiser state."""
    assert trainer.history.losses == other.history.losses
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    states = [t.optimizer.state_dict()["state"] for t in (trainer, other)]
    assert states[0].keys() == states[1].keys()
    for number, entries in states[0].items():
        for key, value in entries.items():
            assert torch.equal(value, states[1][number][key]), (number, key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run that nothing interrupted."""
    trainer = start(tmp_path_factory.mktemp("whole"))
    assert trainer.run()
    return trainer


# -- the loop --------------------------------------------------------------------------------------


def test_run_leaves_its_folder(tmp_path: Path) -> None:
    trainer = start(tmp_path / "run", sample_every=1, samples=3, log_every=4, epochs=1)
    assert trainer.run()
    names = {str(p.relative_to(tmp_path / "run")) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        "config.json",
        "metrics.csv",
        CHECKPOINT,
        "samples/step-00000010.png",
    }
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert TrainConfig.from_dict(config) == trainer.config
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["4", "8", "10"]
    assert [bool(row["validation_bits_per_dim"]) for row in rows] == [False, False, True]
    expected = math.fsum(trainer.history.losses[4:8]) / 4
    assert float(rows[1]["train_bits_per_dim"]) == pytest.approx(expected, rel=1e-7)


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
        parts = [whole._batch_index(10 * epoch + i) for i in range(10)]
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
        step = trainer.optimizer.step

        def interrupted_step() -> None:
            if trainer.step == 4:
                signal.raise_signal(number)
            step()

        trainer.optimizer.step = interrupted_step  # type: ignore[method-assign, assignment]
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


KILLED = """
import sys
from genfast.training import TrainConfig, Trainer
settings = eval(sys.argv[2])
trainer = Trainer.start(TrainConfig(**settings, checkpoint_minutes=0.0), sys.argv[1], quiet=True)
print("started", flush=True)
trainer.run()
"""


def test_killed_run_resumes_to_the_same_curve(tmp_path: Path) -> None:
    """kill -9 while it saves after every step: some whole checkpoint is there, and goes on right."""
    settings = {**TINY, "epochs": 200}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run"), repr(settings)]
    threads = str(torch.get_num_threads())  # sums in other orders give other bits
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": threads}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.7)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    resumed = Trainer.resume(tmp_path / "run", quiet=True)
    reached = resumed.step
    assert reached > 0
    uninterrupted = start(tmp_path / "other", epochs=200, max_steps=reached + 3)
    uninterrupted.run()
    resumed.config = resumed.config.continued({"max_steps": reached + 3})
    resumed.run()
    assert_same_run(uninterrupted, resumed)


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


def test_start_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model: unknown 'pixelcnm'; known are gated-pixelcnn"):
        start(tmp_path, model="pixelcnm")
    np.savez(tmp_path / "a.npz", images=np.zeros((36, 4, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"conditional: the data set .*a.npz has no labels"):
        start(tmp_path / "run", data=str(tmp_path / "a.npz"))
    with pytest.raises(DataError, match="unknown data set"):
        start(tmp_path / "run", data="nothing")
    assert not (tmp_path / "run").exists()


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer = start(tmp_path / "run", max_steps=2)
    trainer.run()
    return tmp_path / "run" / CHECKPOINT


def test_checkpoint_gives_the_model_back(saved: Path, whole: Trainer) -> None:
    checkpoint = read_checkpoint(saved)
    assert checkpoint.description["config"]["lr"] == 1e-2
    run = open_run(saved.parent)
    assert not run.model.training
    assert run.model.config == whole.model.config
    data = run.load_data()
    assert evaluate(run.model, data.validation, labels=True).count == 299


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.3, 0.999])
def test_truncated_checkpoint_is_named(saved: Path, part: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: cut short or not"):
        Trainer.resume(saved.parent)


def test_foreign_and_hostile_checkpoints_are_refused(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"a": Trap()}, tmp_path / "pickled")
    zero = {"a": torch.zeros(2)}
    known = {"format": "genfast-checkpoint-1"}
    for content, message in (
        (b"GIF89a, in truth a picture", "cut short or not a safetensors file"),
        (pickle.dumps(Trap()), "not a safetensors file"),
        ((tmp_path / "pickled").read_bytes(), "not a safetensors file"),
        (save(zero), "not a checkpoint of genfast"),
        (save(zero, {"format": "pt"}), "not a checkpoint of genfast .*pt"),
        (save(zero, known), "description is damaged"),
        (save(zero, {**known, "description": "{"}), "description is damaged"),
        (save(zero, {**known, "description": "[]"}), "description is damaged"),
        (save(zero, {**known, "description": "{}"}), "not of this genfast"),
    ):
        saved.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as error:
            open_run(saved.parent)
        assert str(saved) in str(error.value)
    assert not (tmp_path / "sprung").exists()
    saved.unlink()
    with pytest.raises(CheckpointError, match="not found"):
        open_run(saved.parent)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "name"), "os.system"),
        (("model", "config", "channels"), 5),
        (("model", "config", "channels"), "rm"),
        (("model", "config", "surprise"), 1),
        (("config", "surprise"), 1),
        (("config", "lr"), "high"),
        (("optimizer", "groups"), []),
        (("optimizer", "values"), {"nonsense": 1}),
    ],
)
def test_altered_description_is_refused(saved: Path, place: tuple[str, ...], value: Any) -> None:
    from genfast.training.checkpoint import write_checkpoint

    checkpoint = read_checkpoint(saved)
    target = checkpoint.description
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    write_checkpoint(saved, checkpoint)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
        Trainer.resume(saved.parent)


@pytest.mark.parametrize("name", ["rng.torch", "history.losses"])
def test_missing_state_is_refused(saved: Path, name: str) -> None:
    from genfast.training.checkpoint import write_checkpoint

    checkpoint = read_checkpoint(saved)
    del checkpoint.tensors[name]
    write_checkpoint(saved, checkpoint)
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        Trainer.resume(saved.parent)


def test_other_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (36, 4, 4), dtype=np.uint8)
    np.savez(path, images=images)
    start(tmp_path / "run", data=str(path), conditional=False, max_steps=1).run()
    np.savez(path, images=255 - images)
    with pytest.raises(DataError, match=r"not the data that .* was trained on"):
        Trainer.resume(tmp_path / "run")


# -- writing ---------------------------------------------------------------------------------------


class FullDisk:
    """A file on a disk with room for half of what is written."""

    def __init__(self, descriptor: int, mode: str) -> None:
        self.file = open(descriptor, mode, buffering=0)  # noqa: SIM115

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path, max_steps=3)
    trainer.run()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    trainer.config = trainer.config.continued({"max_steps": 6})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", FullDisk)
        with pytest.raises(OSError, match="No space left") as error:
            trainer.run()
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / CHECKPOINT)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert Trainer.resume(tmp_path, quiet=True).step == 3


def test_write_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new/folder/file"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    path.chmod(0o640)
    write_atomically(path, "three")
    assert path.stat().st_mode & 0o777 == 0o640

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "four")
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_text() == "three"


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


# -- settings --------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    assert all(len(setting.metadata["help"]) > 10 for setting in fields(TrainConfig))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "lr: must be greater than 0, got 0"),
        ({"lr": math.nan}, "lr: must be finite"),
        ({"lr": "1"}, "lr: must be float, got '1'"),
        ({"epochs": 1.5}, "epochs: must be int, got 1.5"),
        ({"epochs": True}, "epochs: must be int, got True"),
        ({"conditional": 1}, "conditional: must be bool, got 1"),
        ({"levels": 1}, "levels: must be from 2 to 256, got 1"),
        ({"max_minutes": -1}, "max_minutes: must be greater than 0"),
        ({"max_steps": "many"}, "max_steps: must be int or None"),
        ({"sample_every": -1}, "sample_every: must be 0 or more"),
        ({"seed": -1}, "seed: must be from 0"),
        ({"batchsize": 3}, "batchsize: unknown setting; known are batch_size"),
    ],
)
def test_settings_are_checked_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        TrainConfig.from_dict(settings)


def test_only_what_cannot_alter_the_past_may_change_on_resuming() -> None:
    config = TrainConfig()
    assert config.continued({"epochs": 3, "lr": config.lr}).epochs == 3
    with pytest.raises(ConfigError, match=r"lr: .* it has 0\.001, got 0\.1"):
        config.continued({"lr": 0.1})


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 100, 299, 1000])
def test_mean_and_error_are_exact_for_any_batches(size: int) -> None:
    values = torch.randn(299, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1e6
    result = summarise(values.split(size), dims=64)
    assert result.count == 299
    scale = 64 * math.log(2)
    exact = math.fsum((-values).tolist()) / 299 / scale
    assert result.bits_per_dim == pytest.approx(exact, rel=1e-14)
    assert result.standard_error == pytest.approx(values.std().item() / math.sqrt(299) / scale, rel=1e-9)
    assert result.nats == pytest.approx(exact * scale, rel=1e-14)


def test_one_image_has_no_error_and_none_has_no_mean() -> None:
    assert math.isnan(summarise([torch.zeros(1)], 4).standard_error)
    with pytest.raises(ValueError, match="no images"):
        summarise([torch.zeros(0)], 4)


def test_evaluate_uses_every_image_with_its_label(whole: Trainer) -> None:
    split = whole.data.test
    with torch.no_grad():
        each = whole.model.log_prob(split.images.long(), split.labels).double()
    whole.model.train()
    for size in (64, 299):
        result = evaluate(whole.model, split, labels=True, batch_size=size)
        assert result.nats == pytest.approx(-each.mean().item(), rel=1e-5)
    assert whole.model.training  # left as it was found


def test_independent_pixels_by_hand() -> None:
    images = torch.tensor([[0, 1], [0, 1], [2, 1], [0, 0]], dtype=torch.uint8).view(4, 1, 1, 2)
    train = Split(images[:3], torch.tensor([0, 0, 1]))
    test = Split(images[3:], torch.tensor([1]))
    # Pixel 0: counts 2+1, 0+1, 1+1 of 6; pixel 1: 0+1, 3+1, 0+1 of 6.
    expected = -(math.log2(3 / 6) + math.log2(1 / 6)) / 2
    assert independent_pixels(train, test, 3).bits_per_dim == pytest.approx(expected)
    # Class 1 has one training image, (2, 1).
    expected = -(math.log2(1 / 4) + math.log2(1 / 4)) / 2
    result = independent_pixels(train, test, 3, num_classes=2)
    assert result.bits_per_dim == pytest.approx(expected)


def test_independent_pixels_do_not_depend_on_the_batches() -> None:
    data = load("digits", levels=5)
    counts = np.ones((64, 5))
    for image in data.train.images.flatten(1).numpy():
        counts[np.arange(64), image] += 1
    log_probs = np.log2(counts / counts.sum(1, keepdims=True))
    test = data.test.images.flatten(1).numpy()
    expected = -log_probs[np.arange(64), test].mean()
    result = independent_pixels(data.train, data.test, 5)
    assert result.bits_per_dim == pytest.approx(expected, rel=1e-12)


# -- history and pictures --------------------------------------------------------------------------


def test_history_survives_its_tensors() -> None:
    history = History([0.1, 1 / 3], [0.5, 0.75], {2: 1 / 7})
    assert History.from_tensors(history.to_tensors()) == history
    assert History.from_tensors(History().to_tensors()) == History()
    with pytest.raises(ValueError, match="different length"):
        History.from_tensors({**history.to_tensors(), "seconds": torch.zeros(1)})


def test_grid_puts_each_image_in_its_place(tmp_path: Path) -> None:
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 48, 60)
    save_png(tmp_path / "grid.png", image_grid(images, levels=5, columns=3))
    with Image.open(tmp_path / "grid.png") as picture:
        array = np.asarray(picture)
    assert array.shape == (2 * 49 + 1, 3 * 61 + 1)
    for number, value in enumerate((0, 64, 128, 191, 255)):
        row, column = divmod(number, 3)
        cell = array[row * 49 + 1 : row * 49 + 49, column * 61 + 1 : column * 61 + 61]
        assert (cell == value).all()


def test_grid_of_colours_is_enlarged_in_whole_pixels() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.int64)
    images[0, 0, 2, 3] = 1
    array = np.asarray(image_grid(images, levels=2))
    assert array.shape == (60, 60, 3)
    red = (array == [255, 0, 0]).all(-1)
    assert red[18:24, 24:30].all()
    assert red.sum() == 36


def test_grid_refuses_what_is_not_images() -> None:
    with pytest.raises(ValueError, match=r"images must be .*got \(2, 8, 8\)"):
        image_grid(torch.zeros(2, 8, 8), levels=2)
