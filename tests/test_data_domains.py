"""Two domains as one data set: from folders, or made of single images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.data import DataError, load, load_domains
from genfast.data.domains import outlines


def write(folder: Path, values: list[int], mode: str = "L") -> None:
    folder.mkdir(parents=True)
    for number, value in enumerate(values):
        Image.new(mode, (8, 8), value if mode == "L" else (value, 0, 0)).save(
            folder / f"{number:02}.png"
        )


def test_pairs_stay_together(tmp_path: Path) -> None:
    write(tmp_path / "A", [10 * k for k in range(12)])
    write(tmp_path / "B", [10 * k + 1 for k in range(12)], "RGB")
    data = load_domains(tmp_path, paired=True, flip=True)
    assert (data.image_shape, data.input_channels, data.levels) == ((4, 8, 8), 1, 256)
    for split in (data.train, data.validation, data.test):
        assert (split.images[:, 1] == split.images[:, 0] + 1).all()
    images, labels = data.batch("train", torch.tensor([3, 1]), epoch=2, seed=5)
    assert labels is None
    assert (images[:, 1] == images[:, 0] + 1).all()


def test_domains_without_pairs_meet_anew_in_every_epoch(tmp_path: Path) -> None:
    write(tmp_path / "A", list(range(1, 13)))
    write(tmp_path / "B", list(range(101, 119)))
    data = load_domains(tmp_path, paired=False)
    of_a, of_b = (len(domain.train) for domain in (data.domains.a, data.domains.b))  # type: ignore
    assert (of_a, of_b, len(data.train)) == (8, 12, 12)
    index = torch.arange(12)
    epochs = [data.batch("train", index, epoch=epoch, seed=1)[0][:, :, 0, 0] for epoch in (0, 0, 1)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    for epoch in epochs:
        assert len(epoch[:, 1].unique()) == of_b  # every image of B once
        assert set(epoch[:, 0].tolist()) == set(data.domains.a.train.images[:, 0, 0, 0].tolist())  # type: ignore
    part = data.batch("train", torch.tensor([7, 2]), epoch=1, seed=1)[0][:, :, 0, 0]
    assert torch.equal(part, epochs[2][[7, 2]])


def test_outlines_are_bright_pixels_beside_dark_ones() -> None:
    images = load("digits").train.images[:50]
    found = outlines(images, 17)[:, 0]
    bright = np.pad((images[:, 0] > 8).numpy(), ((0, 0), (1, 1), (1, 1)))
    for number, row, column in np.ndindex(50, 8, 8):
        r, c = row + 1, column + 1
        beside = [bright[number, r - 1, c], bright[number, r + 1, c], bright[number, r, c - 1]]
        edge = bright[number, r, c] and not all([*beside, bright[number, r, c + 1]])
        assert found[number, row, column] == 16 * edge


def test_made_domains_have_no_pairs_in_training_unless_asked() -> None:
    digits = load("digits")
    paired = load_domains("digits", domains="negative", paired=True)
    assert torch.equal(paired.train.images[:, :1], digits.train.images)
    assert torch.equal(paired.train.images[:, 1:], 16 - digits.train.images)
    free = load_domains("digits", domains="negative", paired=False)
    half = len(digits.train) // 2
    a, b = free.domains.a.train.images, free.domains.b.train.images  # type: ignore[attr-defined]
    assert torch.equal(a, digits.train.images[:half])
    assert torch.equal(b, 16 - digits.train.images[half:])
    for data in (paired, free):  # held-out images are pairs
        assert torch.equal(data.test.images[:, 1:], 16 - digits.test.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": "mirror", "paired": True}, "domains: must be one of folders, side-by-side, edges"),
        ({"domains": "side-by-side", "paired": False}, "domains: side-by-side pictures are pairs"),
        ({"paired": True}, "no folder A, trainA"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_domains(tmp_path, **options)  # type: ignore[arg-type]
