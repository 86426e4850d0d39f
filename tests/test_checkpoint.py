"""Checkpoints and files that survive truncation, hostility and a full disk."""

from __future__ import annotations

import errno
import math
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import start

from genfast.data import DataError
from genfast.training import (
    CHECKPOINT,
    CheckpointError,
    Trainer,
    evaluate,
    open_run,
)
from genfast.training.checkpoint import read_checkpoint, write_checkpoint
from genfast.training.files import write_atomically


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


def test_checkpoint_cut_anywhere_is_named(saved: Path) -> None:
    """In the length of the header, in the header, between tensors, in a tensor, a byte from the end."""
    content = saved.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    places = {0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(content) - 1}
    places |= set(random.Random(0).sample(range(len(content)), 30))
    for place in sorted(places):
        saved.write_bytes(content[:place])
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: cut short or not"):
            Trainer.resume(saved.parent)


def test_header_of_ten_gigabytes_is_not_read(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes((10 * 2**30).to_bytes(8, "little") + content[8:])
    with pytest.raises(CheckpointError, match="cut short or not a safetensors file"):
        open_run(saved.parent)
    with saved.open("r+b") as file:
        file.truncate(11 * 2**30)  # a hole: it takes no room on the disk
    with pytest.raises(CheckpointError, match="cut short or not a safetensors file"):
        open_run(saved.parent)
    saved.unlink()


def test_foreign_and_hostile_checkpoints_are_refused(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"a": Trap()}, tmp_path / "pickled")
    zero = {"a": torch.zeros(2)}
    known = {"format": "genfast-checkpoint-2"}
    for content, message in (
        (b"GIF89a, in truth a picture", "cut short or not a safetensors file"),
        (pickle.dumps(Trap()), "not a safetensors file"),
        ((tmp_path / "pickled").read_bytes(), "not a safetensors file"),  # a zip
        (save(zero), "not a checkpoint of genfast"),
        (save(zero, {"format": "pt"}), "not a checkpoint of genfast .*pt"),
        (save(zero, {"format": "genfast-checkpoint-1"}), "another version of genfast: .*-1, .*-2"),
        (save(zero, known), "description is damaged"),
        (save(zero, {**known, "description": "{"}), "description is damaged"),
        (save(zero, {**known, "description": "[]"}), "description is damaged"),
        (save(zero, {**known, "description": "[" * 100_000}), "description is damaged"),
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
        (("config", "model"), "os.system"),
        (("config", "lr"), math.nan),
        (("objective", "tensors"), []),
        (("objective", "values"), {"nonsense": 1}),
        (("objective", "values"), {"10000.step": 1}),
        (("objective", "values"), None),
        (("objective",), []),
    ],
)
def test_altered_description_is_refused(saved: Path, place: tuple[str, ...], value: Any) -> None:
    checkpoint = read_checkpoint(saved)
    target = checkpoint.description
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    write_checkpoint(saved, checkpoint)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
        Trainer.resume(saved.parent)


def altered(path: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Put `tensor` in the place of another in a checkpoint, or take it away."""
    checkpoint = read_checkpoint(path)
    assert name in checkpoint.tensors
    if tensor is None:
        del checkpoint.tensors[name]
    else:
        checkpoint.tensors[name] = tensor
    write_checkpoint(path, checkpoint)


@pytest.mark.parametrize("name", ["objective.3.exp_avg", "ema.blocks.0.link.weight", "history.losses"])
def test_missing_state_is_refused(tmp_path: Path, name: str) -> None:
    start(tmp_path, max_steps=2, ema=0.5).run()
    altered(tmp_path / CHECKPOINT, name, None)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
        Trainer.resume(tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("history.losses", torch.tensor([1.0, math.nan])),
        ("history.seconds", torch.tensor([1.0, math.inf])),
        ("history.seconds", torch.zeros(3)),
        ("history.losses", torch.zeros(2, 2)),
        ("history.validation", torch.tensor([[math.nan, 1.0]])),
        ("history.validation", torch.tensor([[math.inf, 1.0]])),
        ("history.validation", torch.tensor([[1.5, 1.0]])),
        ("history.validation", torch.tensor([[3.0, 1.0]])),
        ("history.validation", torch.tensor([[2.0, math.nan]])),
        ("history.validation", torch.zeros(2, 3)),
        ("objective.0.exp_avg", torch.zeros(3)),
        ("model.blocks.0.link.weight", torch.zeros(3)),
    ],
)
def test_state_that_cannot_be_is_refused(saved: Path, name: str, tensor: torch.Tensor) -> None:
    altered(saved, name, tensor)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
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
