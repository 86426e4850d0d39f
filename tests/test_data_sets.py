"""Every named data set: found in each layout that it comes in, read right, split as documented."""

from __future__ import annotations

import doctest
import gzip
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import (
    CIFAR_NAMES,
    cifar_arrays,
    mat_arrays,
    pixels,
    python2_pickle,
    python3_pickle,
    rows,
    write_cifar,
    write_mnist,
    write_omniglot,
    write_pictures,
)
from scipy.io import savemat

from genfast.data import (
    DATASETS,
    DataError,
    ImageData,
    ImageOptions,
    binarized_mnist,
    cifar10,
    load,
    mnist,
    omniglot,
)


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENFAST_DATA", raising=False)


def sizes(data: ImageData) -> list[int]:
    return [len(data.train), len(data.validation), len(data.test)]


def test_every_set_has_a_line_about_it() -> None:
    named = {"digits", "mnist", "fashion-mnist", "kmnist", "binarized-mnist", "omniglot", "cifar10"}
    assert set(DATASETS) == named
    assert all(about and "\n" not in about for about in DATASETS.values())


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
def test_missing_set_says_which_files_go_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"^{name} needs the files .*--data-dir or GENFAST_DATA"):
        load(name)
    with pytest.raises(DataError, match=rf"^{name} needs the files .*{tmp_path}.*; none is there"):
        load(name, tmp_path)


# -- the page about them ---------------------------------------------------------------------------

_PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def test_page_is_right() -> None:
    results = doctest.testfile(str(_PAGE), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


def test_page_names_every_set_file_folder_and_option() -> None:
    page = _PAGE.read_text()
    layouts = (*omniglot._LAYOUTS, *cifar10._LAYOUTS[:1], *cifar10._LAYOUTS[2:], binarized_mnist._LAYOUT)
    words = {*DATASETS, *mnist._IDX_NAMES, *mnist._NPZ_NAMES}
    words |= {name for layout in layouts for name in layout.names if "data_batch" not in name}
    words |= {folder for layout in layouts for folder in layout.folders if "batches" not in folder}
    words |= {folder for folders in mnist._FOLDERS.values() for folder in folders}
    words |= {option.name for option in fields(ImageOptions)}
    assert [word for word in sorted(words) if f"`{word}`" not in page] == []


# -- the family of MNIST ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "fashion-mnist/data/fashion"),
        ("kmnist", "KMNIST/raw"),
        ("kmnist", "kmnist"),
    ],
)
def test_relatives_of_mnist_are_not_mistaken_for_it(tmp_path: Path, name: str, folder: str) -> None:
    write_mnist(tmp_path)
    with pytest.raises(DataError, match="none is there"):
        load(name, tmp_path)
    write_mnist(tmp_path / folder, first=100, packed=True)
    data = load(name, tmp_path)
    assert (data.name, data.num_classes, sizes(data)) == (name, 10, [10, 2, 4])
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(100, 110))
    assert load("mnist", tmp_path).train.images[0].unique().tolist() == [0]


def test_idx_files_with_a_dot_in_the_name(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert sizes(load("mnist", tmp_path)) == [10, 2, 4]


def write_kmnist(folder: Path, **changes: np.ndarray) -> None:
    for part, count in (("train", 12), ("test", 4)):
        arrays = {"imgs": pixels(count, 4, 4), "labels": np.arange(count, dtype=np.uint8) % 10}
        for kind, array in arrays.items():
            name = f"{part}_{kind}"
            np.savez_compressed(folder / f"kmnist-{part}-{kind}.npz", changes.get(name, array))


def test_kmnist_as_npz(tmp_path: Path) -> None:
    write_kmnist(tmp_path)
    data = load("kmnist", tmp_path)
    assert sizes(data) == [10, 2, 4]
    images = torch.cat([data.train.images, data.validation.images])[:, 0].numpy()
    assert np.array_equal(images, pixels(12, 4, 4))
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [0, 1, 2, 3]


def test_kmnist_of_the_wrong_form(tmp_path: Path) -> None:
    write_kmnist(tmp_path, train_imgs=pixels(12, 4, 4).astype(float))
    with pytest.raises(DataError, match=r"train-imgs\.npz: array `arr_0` must be uint8.*float64"):
        load("kmnist", tmp_path)
    write_kmnist(tmp_path, test_labels=np.full(4, 10, np.uint8))
    with pytest.raises(DataError, match=r"test-labels\.npz: labels from 0 to 9 expected, found 10"):
        load("kmnist", tmp_path)
    np.savez(tmp_path / "kmnist-test-labels.npz", labels=np.zeros(4, np.uint8))
    with pytest.raises(DataError, match=r"test-labels\.npz: has no array `arr_0`"):
        load("kmnist", tmp_path)


# -- binarised MNIST -------------------------------------------------------------------------------


def amat(bits: np.ndarray) -> bytes:
    return b"".join(b" ".join(b"1" if bit else b"0" for bit in row) + b" \n" for row in bits)


@pytest.mark.parametrize("packed", [False, True])
def test_binarized_mnist_keeps_its_splits(tmp_path: Path, packed: bool) -> None:
    bits = {name: pixels(n, 784) > 127 for name, n in (("train", 5), ("valid", 2), ("test", 3))}
    for name, part in bits.items():
        content = amat(part)
        path = tmp_path / f"binarized_mnist_{name}.amat"
        if packed:
            path.with_suffix(".amat.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    data = load("binarized-mnist", tmp_path)
    assert (data.levels, data.num_classes, data.image_shape) == (2, 0, (1, 28, 28))
    for split, name in ((data.train, "train"), (data.validation, "valid"), (data.test, "test")):
        assert np.array_equal(split.images.reshape(-1, 784).numpy(), bits[name])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-3], "line 3 must be 784 pixels"),
        (lambda b: b.replace(b"1", b"2", 1), "line 1 must be"),
        (lambda b: bytes([b[0] ^ 1]) + b[1:], None),  # another bit is no damage
        (lambda b: b[:1] + b"1" + b[2:], "line 1 must be"),
        (lambda b: b"", "holds no images"),
        (lambda b: gzip.compress(b)[:-9], "cannot be read"),
        (lambda b: b"\x1f\x8b" + b, "cannot be read"),
    ],
)
def test_damaged_binarized_mnist_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str | None
) -> None:
    content = amat(pixels(3, 784) > 127)
    for name in ("train", "valid", "test"):
        (tmp_path / f"binarized_mnist_{name}.amat").write_bytes(content)
    (tmp_path / "binarized_mnist_valid.amat").write_bytes(damage(content))
    if message is None:
        assert sizes(load("binarized-mnist", tmp_path)) == [3, 3, 3]
        return
    with pytest.raises(DataError, match=rf"binarized_mnist_valid\.amat.*{message}"):
        load("binarized-mnist", tmp_path)


# -- CIFAR-10 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "cifar10"])
@pytest.mark.parametrize("form", ["py", "bin", "py.tar.gz", "bin.tar.gz"])
def test_cifar10_in_every_form(tmp_path: Path, form: str, place: str) -> None:
    write_cifar(tmp_path / place, form)
    data = load("cifar10", tmp_path)
    assert (data.image_shape, data.levels, data.num_classes) == ((3, 32, 32), 256, 10)
    assert sizes(data) == [18, 2, 4]
    arrays = cifar_arrays()
    test, labels = arrays.pop("test_batch")
    assert np.array_equal(data.test.images.reshape(4, -1).numpy(), test)
    assert data.test.labels is not None
    assert data.test.labels.tolist() == labels
    # Every training image once, with its own label.
    known = {tuple(r): label for rows, ls in arrays.values() for r, label in zip(rows.tolist(), ls)}  # noqa: B905
    for split in (data.train, data.validation):
        assert split.labels is not None
        for image, label in zip(split.images, split.labels, strict=True):
            assert known.pop(tuple(image.flatten().tolist())) == label
    assert not known


def test_the_pickles_of_these_tests_are_those_of_python_2() -> None:
    data, labels = cifar_arrays()["test_batch"]
    batch = pickle.loads(python2_pickle(data, labels), encoding="bytes")
    assert np.array_equal(batch[b"data"], data)
    assert batch[b"labels"] == labels


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_cifar10_pickled_anew(tmp_path: Path, protocol: int) -> None:
    write_cifar(tmp_path, "py")
    before = load("cifar10", tmp_path)
    for name in CIFAR_NAMES:
        content = python3_pickle(*cifar_arrays()[name], protocol=protocol)
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(content)
    assert torch.equal(load("cifar10", tmp_path).train.images, before.train.images)


# -- Omniglot --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "omniglot-py", "omniglot/python"])
def test_omniglot_from_its_folders(tmp_path: Path, place: str) -> None:
    drawings = write_omniglot(tmp_path / place)
    data = load("omniglot", tmp_path)
    assert (data.image_shape, data.num_classes, sizes(data)) == ((1, 12, 12), 6, [18, 2, 10])
    # Strokes are white, as the digits of MNIST are; they are black in the files.
    expected = {kind: [] for kind in ("background", "evaluation")}
    for key, drawing in drawings.items():
        expected[key.split("/")[0]].append(np.where(drawing, 0, 255))
    assert rows(data.train.images, data.validation.images) == rows(expected["background"])
    assert np.array_equal(data.test.images[:, 0].numpy(), expected["evaluation"])
    # Characters of the evaluation alphabets are classes of their own.
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert data.train.labels.unique().tolist() == [0, 1, 2, 3]
    assert data.test.labels.tolist() == [4] * 5 + [5] * 5


def test_omniglot_names_what_is_out_of_place(tmp_path: Path) -> None:
    write_omniglot(tmp_path)
    write_pictures(tmp_path / "images_background" / "Greek", pixels(1, 12, 12), 77)
    with pytest.raises(DataError, match=r"77\.png: expected as .*ALPHABET/CHARACTER/77\.png"):
        load("omniglot", tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_omniglot_from_chardata_mat(tmp_path: Path, dtype: type, compressed: bool) -> None:
    arrays = {name: array.astype(dtype) for name, array in mat_arrays().items()}
    savemat(tmp_path / "chardata.mat", {**arrays, "x": "text"}, do_compression=compressed)
    data = load("omniglot", tmp_path)
    assert (data.image_shape, data.num_classes, sizes(data)) == ((1, 28, 28), 6, [38, 2, 6])
    assert np.array_equal(data.test.images[:, 0].numpy(), pixels(6, 28, 28, seed=6))
    assert rows(data.train.images, data.validation.images) == rows(pixels(40, 28, 28, seed=40))
    # Character 1 of alphabet 0, character 2 of alphabet 1, ...
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [0, 3, 4, 1, 2, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"testtarget": None}, "needs a matrix of numbers `testtarget`"),
        ({"data": np.zeros((100, 40))}, r"`data` must be \(784, N\), found \(100, 40\)"),
        ({"data": np.full((784, 40), 2.0)}, "`data` must be from 0 to 1"),
        ({"data": np.full((784, 40), np.nan)}, "`data` must be from 0 to 1"),
        ({"data": np.array([["text"]])}, "needs a matrix of numbers `data`, found target, "),
        ({"data": np.ones((784, 40)) * 1j}, "needs a matrix of numbers `data`"),
        ({"data": np.ones((28, 28, 40))}, "`data` must have two dimensions"),
        ({"targetchar": np.ones((1, 3))}, "40 labels expected"),
        ({"target": np.ones((0, 40))}, "40 labels expected"),
        ({"targetchar": np.full((1, 40), np.nan)}, "`targetchar` must be whole numbers"),
    ],
)
def test_chardata_mat_of_the_wrong_form(tmp_path: Path, changes: dict, message: str) -> None:
    arrays = {**mat_arrays(), **changes}
    savemat(tmp_path / "chardata.mat", {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataError, match=rf"chardata\.mat.*{message}"):
        load("omniglot", tmp_path)
