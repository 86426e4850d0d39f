"""CIFAR-10 from hostile pickles and archives: no code run, no file written, no memory filled."""

from __future__ import annotations

import gzip
import pickle
import pickletools
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    CIFAR_NAMES,
    binary_batch,
    cifar_arrays,
    pixels,
    python2_pickle,
    write_cifar,
    write_tar,
)

from genfast.data import DataError, cifar10, load
from genfast.data.pickles import read_pickle, uint8_array


class Trap:
    """Unpickling it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


# -- pickles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int, packed: bool) -> None:
    sprung = tmp_path / "sprung"
    data, labels = cifar_arrays()["test_batch"]
    content = pickle.dumps({"data": data, "labels": labels, "more": Trap(sprung)}, protocol)
    pickle.loads(content)
    assert sprung.exists()  # the trap works
    sprung.unlink()
    write_cifar(tmp_path, "py")
    if packed:
        batches = {name: python2_pickle(*cifar_arrays()[name]) for name in CIFAR_NAMES[:-1]}
        folder = tmp_path / "packed"
        folder.mkdir()
        write_tar(folder / "cifar-10-python.tar.gz", "x", {**batches, "test_batch": content})
    else:
        folder = tmp_path
        (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch: not a pickle.*asks for .*no such file needs"):
        load("cifar10", folder)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",  # a dotted name
        b"i__builtin__\nlist\n(.",
        b"\x80\x02\x82\x01.",  # a registered extension
        b"P1\n.",  # a persistent object
        b"cnumpy\nndarray\n}S'x'\nI1\nsb.",  # sets an attribute of an allowed name
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 2^32 places
        b"\x80\x04\x8e\x00\x00\x00\x00\x10\x00\x00\x00abc.",  # 64 GB of bytes, it says
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",  # a frame of 2^63 bytes
        b"cnumpy\nndarray\n(I100000000000\ntR.",  # an array of 100 GB
        b"",
        b".",
        b"](h\x00e.",
        b"I1\n.",
        b"(" * 100_000 + b"t" * 100_000 + b".",
    ],
)
def test_pickle_that_no_data_set_is(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^batch: (not a pickle of arrays|must hold a dictionary)"):
        read_pickle("batch", content)


def test_calls_in_a_pickle_are_noted_and_not_made() -> None:
    noted = read_pickle("batch", b"}S'x'\ncnumpy\nndarray\n(I100000000000\ntRs.")[b"x"]
    assert not isinstance(noted, np.ndarray)
    with pytest.raises(DataError, match="entry: must be an array of bytes"):
        uint8_array("entry", noted)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 2)),
        np.zeros(3, np.int8),
        np.array([None]),
        np.asfortranarray(pixels(2, 3)),
        b"abc",
        [1],
        np.uint8(3),
    ],
)
def test_only_plain_arrays_of_bytes_are_taken(value: object) -> None:
    try:
        noted = read_pickle("batch", pickle.dumps({"x": value}, protocol=2))[b"x"]
    except DataError as error:
        assert "asks for" in str(error)  # noqa: PT017
        return
    with pytest.raises(DataError, match="entry: must be an array of bytes"):
        uint8_array("entry", noted)


def test_shape_must_fit_the_bytes() -> None:
    content = python2_pickle(pixels(2, 300), [0, 1])
    shape = struct.pack("<i", 300)
    assert content.count(shape) == 1
    batch = read_pickle("batch", content.replace(shape, struct.pack("<i", 301)))
    with pytest.raises(DataError, match=r"entry: .*\(2, 301\) of 600 bytes"):
        uint8_array("entry", batch[b"data"])


def test_damaged_pickle_anywhere(tmp_path: Path) -> None:
    data, labels = cifar_arrays()["test_batch"]
    content = python2_pickle(data, labels)
    write_cifar(tmp_path, "py")
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    for length in [*range(0, 200, 7), len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"test_batch"):
            load("cifar10", tmp_path)
    refused = 0
    middle = range(300, len(content) - 300)  # within the pixels there is nothing to see
    places = [p for p in range(len(content)) if p not in middle]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            load("cifar10", tmp_path)
        except DataError as error:
            assert "test_batch" in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(list(pickletools.genops(content)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": pixels(4, 3071)}, r"images must be \(N, 3072\), found \(4, 3071\)"),
        ({"labels": [1, 2, 3]}, "labels must be 4 whole numbers"),
        ({"labels": [1, 2, 3, 10]}, "labels from 0 to 9 expected, found 1 to 10"),
        ({"labels": [1, 2, 3, None]}, "labels must be 4 whole numbers"),
        ({"labels": {}}, "labels must be 4 whole numbers"),
        ({"labels": None}, "labels must be 4 whole numbers"),
    ],
)
def test_cifar10_of_the_wrong_form(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_cifar(tmp_path, "py")
    batch = {"data": pixels(4, 3072), "labels": [0, 1, 2, 3], **change}
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=rf"data_batch_3.*{message}"):
        load("cifar10", tmp_path)
    del batch[next(iter(change))]
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match="data_batch_3: has no entry"):
        load("cifar10", tmp_path)


def test_binary_cifar10_cut_short(tmp_path: Path) -> None:
    write_cifar(tmp_path, "bin")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: must be a multiple of 3073 bytes"):
        load("cifar10", tmp_path)
    path.write_bytes(binary_batch(pixels(2, 3072), [3, 44]))
    with pytest.raises(DataError, match=r"data_batch_2\.bin: labels from 0 to 9 .* found 3 to 44"):
        load("cifar10", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin: data_batch_2\.bin not found"):
        load("cifar10", tmp_path)


# -- archives --------------------------------------------------------------------------------------


def test_damaged_archive_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path, "bin.tar.gz")
    path = tmp_path / "cifar-10-binary.tar.gz"
    content = path.read_bytes()
    for damaged in (
        b"",
        content[:50],
        content[: len(content) // 2],
        b"x" + content,
        gzip.compress(b"x"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: archive"):
            load("cifar10", tmp_path)


def test_archive_paths_mean_nothing(tmp_path: Path) -> None:
    contents = {f"{name}.bin": binary_batch(*arrays) for name, arrays in cifar_arrays().items()}
    write_tar(tmp_path / "cifar-10-binary.tar.gz", "../../etc", contents)
    assert len(load("cifar10", tmp_path).test) == 4
    assert [file.name for file in tmp_path.rglob("*")] == ["cifar-10-binary.tar.gz"]


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in CIFAR_NAMES:
            link = tarfile.TarInfo(f"x/{name}.bin")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    with pytest.raises(DataError, match=r"archive has no file data_batch_1\.bin"):
        load("cifar10", tmp_path)


def test_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "_LARGEST_ARCHIVE", 2**20)
    write_tar(tmp_path / "cifar-10-binary.tar.gz", "x", {"zeros": bytes(2**21)})
    assert (tmp_path / "cifar-10-binary.tar.gz").stat().st_size < 2**13
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: would need"):
        load("cifar10", tmp_path)


def test_archive_whose_file_claims_to_be_huge(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x/data_batch_1.bin")
    member.size = 10**11
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf() + bytes(2048)))
    with pytest.raises(DataError, match=r"data_batch_1\.bin: would need 100\.0 GB"):
        load("cifar10", tmp_path)
