"""A user's own images: npz files and folders of pictures."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels, write_pictures
from PIL import Image

from genfast.data import DataError, load

# -- npz -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW", "NHW1"])
def test_npz_layouts(tmp_path: Path, layout: str) -> None:
    channels = 3 if "C" in layout else 1
    nchw = pixels(36, channels, 5, 4)
    stored = {
        "NHW": nchw[:, 0],
        "NHWC": nchw.transpose(0, 2, 3, 1),
        "NCHW": nchw,
        "NHW1": nchw.transpose(0, 2, 3, 1),
    }[layout]
    np.savez_compressed(tmp_path / "a.npz", images=stored)
    data = load(tmp_path / "a.npz")
    assert data.image_shape == (channels, 5, 4)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [24, 6, 6]
    rows = torch.cat([s.images for s in (data.train, data.validation, data.test)]).flatten(1)
    assert sorted(rows.tolist()) == sorted(nchw.reshape(36, -1).tolist())
    assert (data.num_classes, data.train.labels) == (0, None)


def test_npz_with_its_own_test_set_and_labels(tmp_path: Path) -> None:
    train, test = np.split(pixels(15, 4, 4), [12])
    labels = np.arange(12, dtype=np.uint8) % 3
    np.savez(
        tmp_path / "a.npz",
        train_images=train,
        test_images=test,
        train_labels=labels,
        test_labels=labels[:3],
    )
    data = load(tmp_path / "a.npz", levels=4)
    assert torch.equal(data.test.images, torch.from_numpy(test // 64).unsqueeze(1))
    assert (len(data.train), len(data.validation), data.num_classes) == (10, 2, 3)
    # A label stays with its image.
    by_image = {tuple((image // 64).ravel()): label for image, label in zip(train, labels, strict=True)}
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        assert by_image[tuple(image.flatten().tolist())] == label


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": pixels(12, 4, 4)}, "needs an array `images`.*found x"),
        ({"images": pixels(12, 4, 4).astype(float)}, "must be uint8.*found float64"),
        ({"images": pixels(12, 4, 4, 2)}, r"must be \(N,H,W\).*\(12, 4, 4, 2\)"),
        ({"images": pixels(12, 3, 4, 3)}, "may be read as NCHW and as NHWC"),
        ({"images": pixels(12)}, r"must be \(N,H,W\)"),
        ({"images": pixels(0, 4, 4)}, "is empty"),
        ({"images": pixels(5, 4, 4)}, "5 images are too few"),
        ({"images": pixels(12, 4, 4), "labels": np.zeros(11, int)}, "must be 12 whole numbers"),
        ({"images": pixels(12, 4, 4), "labels": np.zeros(12)}, "whole numbers, found float64"),
        ({"images": pixels(12, 4, 4), "labels": np.arange(12) - 1}, "from 0 up, found -1 to 10"),
        ({"images": np.array([None] * 12)}, "array `images` cannot be read.*allow_pickle"),
        ({"train_images": pixels(12, 4, 4), "test_images": pixels(3, 5, 5)}, "differ in shape"),
        (
            {
                "train_images": pixels(12, 4, 4),
                "test_images": 255 - pixels(3, 4, 4),
                "train_labels": np.zeros(12, int),
            },
            "labels for only one",
        ),
    ],
)
def test_npz_of_the_wrong_form(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_cut_or_damaged_anywhere(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, images=pixels(12, 4, 4))
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.npz"):
            load(path)
    refused = 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            load(path)
        except DataError as error:
            assert "a.npz" in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(content) // 3 // 2  # some bytes of a zip file have no meaning


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    (tmp_path / "a.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"not an .npz file"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.array([Trap()] * 12, dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        load(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


# -- folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_folder_of_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    arrays = pixels(12, *shape)
    write_pictures(tmp_path / "inner", arrays)
    (tmp_path / "notes.txt").write_text("not a picture")
    data = load(tmp_path)
    rows = torch.cat([s.images for s in (data.train, data.validation, data.test)])
    nchw = arrays[:, None] if arrays.ndim == 3 else arrays.transpose(0, 3, 1, 2)
    assert data.image_shape == nchw.shape[1:]
    assert sorted(rows.flatten(1).tolist()) == sorted(nchw.reshape(12, -1).tolist())


def test_folder_with_train_and_test_keeps_them_apart(tmp_path: Path) -> None:
    arrays = pixels(15, 4, 4)
    write_pictures(tmp_path / "train", arrays[:12])
    write_pictures(tmp_path / "test", arrays[12:])
    data = load(tmp_path)
    assert torch.equal(data.test.images, torch.from_numpy(arrays[12:]).unsqueeze(1))
    assert (len(data.train), len(data.validation)) == (10, 2)


def test_one_colour_picture_makes_all_rgb(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(12, 4, 4))
    Image.fromarray(pixels(1, 4, 4, 3)[0]).save(tmp_path / "99.png")
    assert load(tmp_path).image_shape == (3, 4, 4)


def test_folder_errors_name_the_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures found"):
        load(tmp_path)
    write_pictures(tmp_path, pixels(12, 16, 16))
    whole = (tmp_path / "07.png").read_bytes()
    for content, message in (
        (whole[:-40], r"07\.png: picture is damaged"),
        (whole[:20], r"07\.png: "),
        (b"", r"07\.png: not a picture"),
    ):
        (tmp_path / "07.png").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(tmp_path)
    Image.fromarray(pixels(1, 9, 16)[0]).save(tmp_path / "07.png")
    with pytest.raises(DataError, match=r"07\.png: is \(16, 9\) pixels.*\(16, 16\)"):
        load(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(tmp_path / "07.png")
    with pytest.raises(DataError, match=r"07\.png: has more than 8 bits"):
        load(tmp_path)
