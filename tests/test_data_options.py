"""Options: crop, resize, colour, binarisation and flips; what is random is a function of its numbers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels, write_pictures
from PIL import Image

from genfast.data import DataError, ImageData, ImageOptions, load
from genfast.data.draws import binarised


def stripes(count: int = 24) -> np.ndarray:
    """Images of 6x9 whose pixel at (row, column) is 20 * row + column, plus the image's number."""
    image = 20 * np.arange(6)[:, None] + np.arange(9)
    return (image + np.arange(count)[:, None, None]).astype(np.uint8)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """24 grey images of 8x10 as training and 6 as test images."""
    path = tmp_path / "a.npz"
    train, test = np.split(pixels(30, 8, 10), [24])
    np.savez(path, train_images=train, test_images=test, train_labels=np.arange(24), test_labels=[1] * 6)
    return path


# -- the options themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("levels", 257, "from 2 to 256"),
        ("levels", 65536, "from 2 to 256"),
        ("levels", 1, "from 2 to 256"),
        ("levels", True, "from 2 to 256"),
        ("image_size", 0, "a whole number from 1"),
        ("image_size", 2.5, "a whole number from 1"),
        ("crop", -1, "a whole number from 1"),
        ("colour", "gray", "grey or rgb"),
        ("binarise", "static", "threshold, fixed or dynamic"),
        ("flip", 1, "True or False"),
    ],
)
def test_wrong_option_is_named(name: str, value: object, wanted: str) -> None:
    with pytest.raises(DataError, match=rf"^{name}: must be {wanted}.*, got {value!r}$"):
        load("digits", **{name: value})


def test_levels_must_agree_with_binarisation() -> None:
    with pytest.raises(DataError, match=r"^levels: must be 2 or left out with binarise, got 16$"):
        load("digits", levels=16, binarise="fixed")
    assert load("digits", levels=2, binarise="fixed").levels == 2


def test_every_option_is_explained() -> None:
    assert all(option.metadata["help"] for option in fields(ImageOptions))


# -- crop, resize, colour --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_crop_takes_the_centre(tmp_path: Path, form: str) -> None:
    arrays = stripes()
    path = tmp_path / "a.npz"
    if form == "npz":
        np.savez(path, train_images=arrays, test_images=arrays[:2] + 100)
    else:
        path = tmp_path / "pictures"
        write_pictures(path / "train", arrays)
        write_pictures(path / "test", arrays[:2] + 100)
    data = load(path, crop=4)
    assert np.array_equal(data.test.images[:, 0].numpy(), arrays[:2, 1:5, 2:6] + 100)
    with pytest.raises(DataError, match=r"is \(9, 6\) pixels, too small for crop=7"):
        load(path, crop=7)


@pytest.mark.parametrize("size", [3, 6, 12])
def test_resizing_is_that_of_the_short_side_then_the_centre(tmp_path: Path, size: int) -> None:
    """Against Pillow on the whole picture, cropped afterwards."""
    arrays = pixels(27, 6, 10)
    np.savez(tmp_path / "a.npz", train_images=arrays[:24], test_images=arrays[24:])
    data = load(tmp_path / "a.npz", image_size=size)
    for found, array in zip(data.test.images, arrays[24:], strict=True):
        width, left = 10 * size // 6, 2 * size // 6
        whole = Image.fromarray(array).resize((width, size), Image.Resampling.BICUBIC)
        assert np.array_equal(found[0].numpy(), np.asarray(whole)[:, left : left + size])


def test_resizing_does_not_alias(tmp_path: Path) -> None:
    """A chessboard shrunk fourfold is an even grey; without a filter it would be black or white."""
    board = np.indices((32, 32)).sum(0) % 2 * 255
    np.savez(tmp_path / "a.npz", images=(board + np.zeros((12, 1, 1))).astype(np.uint8))
    with pytest.raises(DataError, match="too few of the 12 images differ"):
        load(tmp_path / "a.npz", image_size=8)
    arrays = np.repeat(board[None], 12, 0).astype(np.uint8)
    arrays[:, 0, 0] = np.arange(12)  # so that they differ
    np.savez(tmp_path / "a.npz", images=arrays)
    inner = load(tmp_path / "a.npz", image_size=8).train.images[..., 2:-2, 2:-2]
    assert (inner.int() - 128).abs().max() <= 2


def test_crop_comes_before_resizing(tmp_path: Path) -> None:
    """As for CelebA: a centre crop, then the size."""
    arrays = pixels(12, 21, 17, 3)
    write_pictures(tmp_path, arrays)
    cropped = Image.fromarray(np.ascontiguousarray(arrays[:, 3:17, 1:15][0]))
    expected = np.asarray(cropped.resize((7, 7), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    data = load(tmp_path, crop=14, image_size=7)
    images = torch.cat([data.train.images, data.validation.images, data.test.images])
    assert images.shape == (12, 3, 7, 7)
    assert any(np.array_equal(image, expected) for image in images.numpy())


def test_few_levels_stay_in_range_when_resized() -> None:
    """Bicubic overshoots next to edges: 16 is the most that digits have."""
    data = load("digits", image_size=20)
    assert data.image_shape == (1, 20, 20)
    assert int(data.train.images.max()) == 16
    assert load("digits", image_size=20, levels=2).train.images.unique().tolist() == [0, 1]


def test_pictures_of_several_sizes_need_an_option(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(6, 8, 10))
    write_pictures(tmp_path, pixels(6, 12, 9), start=6)
    with pytest.raises(DataError, match=r"06\.png: is \(9, 12\) .*\(10, 8\); image_size or crop"):
        load(tmp_path)
    assert load(tmp_path, image_size=5).image_shape == (1, 5, 5)
    assert load(tmp_path, crop=5).image_shape == (1, 5, 5)


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_colour_is_converted(tmp_path: Path, form: str) -> None:
    arrays = pixels(12, 4, 5, 3)
    path = tmp_path / "a.npz"
    if form == "npz":
        np.savez(path, images=arrays)
    else:
        path = tmp_path / "pictures"
        write_pictures(path, arrays)
    grey, rgb, kept = (load(path, colour=colour) for colour in ("grey", "rgb", None))
    assert (grey.image_shape, rgb.image_shape) == ((1, 4, 5), (3, 4, 5))
    assert torch.equal(rgb.train.images, kept.train.images)
    red, green, blue = kept.train.images.double().unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601
    assert (grey.train.images[:, 0] - luma).abs().max() <= 0.51
    np.savez(tmp_path / "grey.npz", images=arrays[..., 0])
    three = load(tmp_path / "grey.npz", colour="rgb").train.images
    assert torch.equal(three, load(tmp_path / "grey.npz").train.images.expand(-1, 3, -1, -1))


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
