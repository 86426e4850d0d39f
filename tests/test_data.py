"""Data sets: right values, splits that never overlap, and an error that names the file."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import idx_bytes, pixels, write_mnist, write_pictures
from PIL import Image

from genfast.data import DATASETS, DataError, load, quantise
from genfast.data.extras import require
from genfast.data.idx import read_idx


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENFAST_DATA", raising=False)


# -- levels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 8, 17, 255, 256])
def test_quantise_makes_bins_of_equal_width(levels: int) -> None:
    values = torch.arange(256, dtype=torch.uint8)
    result = quantise(values, 256, levels)
    assert result.dtype == torch.uint8
    assert result.tolist() == [v * levels // 256 for v in range(256)]
    assert result.unique().tolist() == list(range(levels))


@pytest.mark.parametrize("levels", [-1, 0, 1, 18, 256])
def test_quantise_refuses_levels_that_the_source_has_not(levels: int) -> None:
    with pytest.raises(DataError, match=f"between 2 and 17, got {levels}"):
        quantise(torch.zeros(3, dtype=torch.uint8), 17, levels)


# -- digits ----------------------------------------------------------------------------------------


def test_digits_are_split_without_overlap_and_always_alike() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    splits = (data.train, data.validation, data.test)
    assert data.image_shape == (1, 8, 8)
    assert (data.levels, data.num_classes) == (17, 10)
    assert [len(split) for split in splits] == [1199, 299, 299]
    # Together they are the data set, each image once and with its own label.
    rows = torch.cat([torch.cat([s.images.flatten(1).long(), s.labels[:, None]], 1) for s in splits])
    source = load_digits()
    expected = np.concatenate([source.data, source.target[:, None]], 1).astype(int)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))
    # The split is part of every published figure: it may never change.
    assert data.test.labels[:12].tolist() == [8, 2, 2, 2, 9, 8, 8, 3, 6, 0, 4, 4]
    assert torch.equal(load("digits").test.images, data.test.images)


def test_digits_binarise_in_the_middle() -> None:
    natural, binary = load("digits"), load("digits", levels=2)
    assert torch.equal(binary.train.images, (natural.train.images > 8).to(torch.uint8))
    assert binary.levels == 2


# -- mnist -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder", [".", "MNIST/raw", "mnist"])
def test_mnist_is_found_and_split(tmp_path: Path, folder: str, packed: bool) -> None:
    write_mnist(tmp_path / folder, packed=packed)
    data = load("mnist", tmp_path)
    assert data.image_shape == (1, 4, 3)
    assert data.levels == 256
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(10))
    assert data.validation.images[:, 0, 0, 0].tolist() == [10, 11]  # the last sixth
    assert data.validation.labels is not None
    assert data.validation.labels.tolist() == [0, 1]
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(4))


def test_data_dir_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    monkeypatch.setenv("GENFAST_DATA", str(tmp_path))
    assert len(load("mnist", levels=2).train) == 10


def test_missing_mnist_says_which_files_go_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*--data-dir or GENFAST_DATA"):
        load("mnist")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*MNIST/raw.*none is there"):
        load("mnist", tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte not found"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3", lambda b: b[:-1], r"\(12, 4, 3\) needs 144 bytes.*only 143"),
        ("train-images-idx3", lambda b: b + b"x", r"needs 144 bytes.*found more"),
        ("train-images-idx3", lambda b: b[:9], "header needs 16 bytes, found 9"),
        ("train-images-idx3", lambda b: b"", "found nothing"),
        ("train-images-idx3", lambda b: b"<html>" + b, "expected to begin with 00 00 08 03"),
        ("train-labels-idx1", lambda b: gzip.compress(b)[:-3], "cannot be read"),
        ("train-labels-idx1", lambda b: gzip.compress(b)[:12] + b"\0\1\2\3", "cannot be read"),
        ("train-labels-idx1", lambda b: b[:-1] + b"\x0b", "labels from 0 to 9.*found 11"),
        (
            "train-labels-idx1",
            lambda b: idx_bytes(np.zeros(11, np.uint8)),
            "12 labels expected, found 11",
        ),
        (
            "t10k-images-idx3",
            lambda b: idx_bytes(np.zeros((4, 5, 5), np.uint8)),
            "differ in shape",
        ),
        ("t10k-images-idx3", lambda b: idx_bytes(np.zeros((0, 4, 3), np.uint8)), "no images"),
    ],
)
def test_damaged_mnist_is_named(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    write_mnist(tmp_path)
    path = tmp_path / f"{name}-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        load("mnist", tmp_path)
    assert str(tmp_path) in str(error.value)


def test_idx_does_not_believe_a_header_of_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**20, 2**10) + b"abc")
    with pytest.raises(DataError, match="huge"):
        read_idx(path, dims=3)


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


# -- names and extras ------------------------------------------------------------------------------


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(DataError, match=rf"unknown data set 'mnits'.*{', '.join(sorted(DATASETS))}"):
        load("mnits")


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r'sklearn.*pip install "genfast\[train\]"'):
        load("digits")


def test_require_does_not_hide_a_library_that_is_broken_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "genfast_broken_library.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("genfast_broken_library")
