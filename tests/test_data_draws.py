"""Binarisation and flips: right in distribution, and a function of seed, epoch and image alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels

from genfast.data import ImageData, load
from genfast.data.draws import binarised


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """24 grey images of 8x10 as training and 6 as test images."""
    path = tmp_path / "a.npz"
    train, test = np.split(pixels(30, 8, 10), [24])
    np.savez(path, train_images=train, test_images=test, train_labels=np.arange(24), test_labels=[1] * 6)
    return path


# -- binarisation ----------------------------------------------------------------------------------


def test_threshold_is_in_the_middle(npz: Path) -> None:
    data, plain = load(npz, binarise="threshold"), load(npz)
    assert torch.equal(data.test.images, (plain.test.images >= 128).to(torch.uint8))
    assert data.levels == 2


def test_probability_is_the_intensity() -> None:
    """Each of 256 intensities, 2^16 draws: the frequencies scatter as binomials do."""
    count = 2**16
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(count, -1, -1, -1)
    bits = binarised(values, 256, seed=1, epoch=2, numbers=torch.arange(count))
    frequency = bits.flatten(1).double().mean(0)
    expected = torch.arange(256).double() / 255
    assert frequency[0] == 0
    assert frequency[255] == 1
    deviation = (expected * (1 - expected) / count).sqrt()
    scaled = (frequency - expected)[1:-1] / deviation[1:-1]
    assert scaled.abs().max() < 4.5
    assert abs(float(scaled.square().mean()) - 1) < 0.4


@pytest.mark.parametrize("levels", [2, 17])
def test_draws_of_few_levels(levels: int) -> None:
    values = torch.tensor([0, levels - 1], dtype=torch.uint8).expand(50, 1, 1, 2)
    bits = binarised(values, levels, seed=0, epoch=0, numbers=torch.arange(50))
    assert torch.equal(bits, (values > 0).to(torch.uint8))


def test_fixed_draw_is_always_the_same(npz: Path) -> None:
    one, other = (load(npz, binarise="fixed") for _ in range(2))
    plain = load(npz)
    for split in ("train", "validation", "test"):
        images = getattr(one, split).images
        assert torch.equal(images, getattr(other, split).images)
        assert not torch.equal(images, (getattr(plain, split).images >= 128).to(torch.uint8))
    # In training nothing is drawn again.
    index = torch.arange(len(one.train))
    assert torch.equal(one.batch("train", index, epoch=5, seed=9)[0], one.train.images)


def test_fixed_draw_is_part_of_published_figures() -> None:
    """It may never change: these are the third to fifth row of the first test digit."""
    rows = load("digits", binarise="fixed").test.images[0, 0, 2:5]
    assert rows.tolist() == [
        [0, 0, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
    ]


def test_training_and_test_images_are_drawn_apart(tmp_path: Path) -> None:
    """Image i of either part, all of them mid-grey, would else be binarised alike."""
    grey = np.full((12, 8, 8), 128, np.uint8)
    grey[:, 0, 0] = np.arange(12)
    np.savez(tmp_path / "a.npz", train_images=grey, test_images=grey + 1)
    data = load(tmp_path / "a.npz", binarise="fixed")
    images = torch.cat([data.train.images, data.validation.images, data.test.images])
    assert len({tuple(image.flatten().tolist()[1:]) for image in images}) == 24


def test_dynamic_draws_anew_in_training_alone(npz: Path) -> None:
    data, fixed = load(npz, binarise="dynamic"), load(npz, binarise="fixed")
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(data, split).images, getattr(fixed, split).images)
    index = torch.arange(4)
    for split in ("validation", "test"):
        for epoch in (0, 1):
            images, labels = data.batch(split, index, epoch=epoch, seed=epoch)
            assert torch.equal(images, getattr(data, split).images[:4])
            assert labels is not None
            assert torch.equal(labels, getattr(data, split).labels[:4])
    draws = [data.batch("train", index, epoch=e, seed=s)[0] for e in (0, 1, 2) for s in (0, 1)]
    for number, draw in enumerate(draws):
        assert draw.dtype == torch.uint8
        assert draw.unique().tolist() == [0, 1]
        assert not torch.equal(draw, data.train.images[:4])
        assert not any(torch.equal(draw, other) for other in draws[:number])


def test_dynamic_draws_follow_the_images(npz: Path) -> None:
    """Averaged over epochs they are the intensities."""
    data, plain = load(npz, binarise="dynamic"), load(npz)
    index = torch.tensor([3, 0, 11])
    epochs = 2000
    mean = sum(data.batch("train", index, epoch=e)[0].double() for e in range(epochs)) / epochs
    expected = plain.train.images[index].double() / 255
    assert (mean - expected).abs().max() < 4.5 * (0.25 / epochs) ** 0.5


@pytest.mark.parametrize("options", [{"binarise": "dynamic"}, {"flip": True}])
def test_batches_are_a_function_of_seed_epoch_and_image(npz: Path, options: dict) -> None:
    data = load(npz, **options)
    index = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    whole, labels = data.batch("train", index, epoch=7, seed=3)
    torch.manual_seed(123)
    np.random.seed(5)
    again = load(npz, **options)
    for start in range(0, len(index), 3):
        part, part_labels = again.batch("train", index[start : start + 3], epoch=7, seed=3)
        assert torch.equal(part, whole[start : start + 3])
        assert labels is not None
        assert part_labels is not None
        assert torch.equal(part_labels, labels[start : start + 3])
    assert not torch.equal(data.batch("train", index, epoch=8, seed=3)[0], whole)
    assert not torch.equal(data.batch("train", index, epoch=7, seed=4)[0], whole)


def test_batches_do_not_depend_on_the_process() -> None:
    program = (
        "import torch; from genfast.data import load; d = load('digits', binarise='dynamic', flip=True);"
        "print(d.batch('train', torch.arange(9), epoch=2, seed=2**64 - 1)[0].flatten().tolist())"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    data = load("digits", binarise="dynamic", flip=True)
    images, _ = data.batch("train", torch.arange(9), epoch=2, seed=2**64 - 1)
    assert output == f"{images.flatten().tolist()}\n"


# -- flips -----------------------------------------------------------------------------------------


def test_flips_mirror_half_of_the_training_images() -> None:
    plain, data = load("digits"), load("digits", flip=True)
    index = torch.arange(len(data.train))
    images, _ = data.batch("train", index, epoch=1, seed=0)
    original = plain.train.images
    flipped = (images == original.flip(-1)).flatten(1).all(1)
    kept = (images == original).flatten(1).all(1)
    assert bool((flipped | kept).all())
    assert abs(int((flipped & ~kept).sum()) - 600) < 4.5 * (1199 / 4) ** 0.5
    assert torch.equal(data.train.images, original)
    assert torch.equal(data.batch("test", index[:9], epoch=1)[0], plain.test.images[:9])


def test_flips_and_draws_are_independent(tmp_path: Path) -> None:
    """The same grey everywhere: a flip must not undo or follow what was drawn."""
    data = load("digits", binarise="dynamic")
    both = load("digits", binarise="dynamic", flip=True)
    index = torch.arange(400)
    one, two = (d.batch("train", index, epoch=4)[0] for d in (data, both))
    mirrored = (two == one.flip(-1)).flatten(1).all(1)
    assert bool((mirrored | (two == one).flatten(1).all(1)).all())
    assert 0.3 < float(mirrored.double().mean()) < 0.7


# -- what a batch refuses --------------------------------------------------------------------------


def test_batch_refuses_what_it_cannot_give(npz: Path) -> None:
    data: ImageData = load(npz, binarise="dynamic")
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'val'"):
        data.batch("val", torch.arange(2))
    for index in (torch.tensor([-1, 0]), torch.tensor([0, 99])):
        with pytest.raises(ValueError, match="index must be from 0 to 19 in train, got"):
            data.batch("train", index)
    with pytest.raises(ValueError, match=r"epoch: must be from 0 to 2\*\*64 - 1, got -1"):
        data.batch("train", torch.arange(2), epoch=-1)
    images, labels = data.batch("train", torch.arange(0))
    assert images.shape == (0, 1, 8, 10)
    assert labels is not None
    assert labels.shape == (0,)
