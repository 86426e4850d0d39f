"""Data sets: right values, splits that never overlap, and an error that names the file."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import idx_bytes, write_mnist

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


# -- names and extras ------------------------------------------------------------------------------


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(DataError, match=rf"unknown data set 'mnits'.*{', '.join(DATASETS)}"):
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
