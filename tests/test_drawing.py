"""`genfast sample`: completion, and the same images however the work is split."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import contents, sample, small
from ranks import run_ranks

from genfast import cli
from genfast.data import Split
from genfast.training import Trainer, open_run


@pytest.fixture(scope="module")
def run(whole: Trainer) -> Path:
    """A trained class-conditional run of 8x8 images with two levels."""
    return whole.run_dir


# -- completion ------------------------------------------------------------------------------------


def test_given_rows_are_kept_and_the_others_drawn(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "a.npz", "--given-rows", "5", "--start", "297", n=4)
    test = open_run(run).load_data().test
    assert test.labels is not None
    number = [297, 298, 0, 1]  # the test set has 299 images, and then begins again
    with np.load(tmp_path / "a.npz") as archive:
        images, labels = archive["images"][..., 0] // 255, archive["labels"]
    real = test.images[number, 0].numpy()
    assert (images[:, :5] == real[:, :5]).all()
    assert (images[:, 5:] != real[:, 5:]).any()
    assert labels.tolist() == test.labels[number].tolist()


def test_completions_of_other_images_are_other_draws() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    zeros, ones = (small(given=Split(images + value), given_rows=2) for value in (0, 1))
    assert zeros.describe() != ones.describe()
    assert zeros.describe() != small().describe()
    with pytest.raises(ValueError, match="given_rows: must be 1 to 3, got 0"):
        small(given=Split(images), given_rows=0)


# -- the work split --------------------------------------------------------------------------------


def test_any_batch_size_and_any_start_give_the_same_images(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "a.npz", n=25)
    sample(run, tmp_path / "b.npz", "--batch-size", "4", n=25)
    sample(run, tmp_path / "c.npz", "--start", "13", n=12)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    whole, part = np.load(tmp_path / "a.npz"), np.load(tmp_path / "c.npz")
    for name in ("images", "labels"):
        assert (whole[name][13:] == part[name]).all()


def test_three_processes_write_the_same_archive(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "one.npz", n=25)
    out = tmp_path / "three.npz"
    command = ["sample", str(run), "-n", "25", "--batch-size", "4", "--out", str(out)]
    assert run_ranks(3, command) == [f"25 samples: {out}\n", "", ""]
    assert out.read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_two_processes_complete_a_folder(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "one", n=15)
    out = tmp_path / "two"
    sample(run, out, n=5)
    command = ["sample", str(run), "-n", "15", "--batch-size", "3", "--out", str(out), "--resume"]
    assert run_ranks(2, command) == [f"15 samples (5 of them were there): {out}\n", ""]
    assert contents(out) == contents(tmp_path / "one")
    described = json.loads((out / "samples.json").read_text())
    assert (described["seed"], described["temperature"], described["label"]) == (0, 1.0, None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", ["sample", "eval"])
def test_a_terminal_sees_the_progress_in_images(
    command: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert cli.main([command, str(run)]) == 0
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert {"sample": "64/64", "eval": "299/299"}[command] in shown
    assert "images/s" in shown
    monkeypatch.setattr("sys.stderr", io.StringIO())  # a file, a pipe
    assert cli.main([command, str(run)]) == 0
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
