"""Options of `load`: what is wrong is named; crop, resize and colour."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels, write_pictures
from PIL import Image

from genfast.data import DataError, ImageOptions, load


def stripes(count: int = 24) -> np.ndarray:
    """Images of 6x9 whose pixel at (row, column) is 20 * row + column, plus the image's number."""
    image = 20 * np.arange(6)[:, None] + np.arange(9)
    return (image + np.arange(count)[:, None, None]).astype(np.uint8)


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
