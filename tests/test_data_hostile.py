"""Damaged and hostile files: an error that names the file; no code run, no memory filled."""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    CIFAR_NAMES,
    binary_batch,
    cifar_arrays,
    mat_arrays,
    pixels,
    python2_pickle,
    write_cifar,
    write_mnist,
    write_pictures,
    write_tar,
)
from PIL import Image
from scipy.io import savemat

from genfast.data import DataError, binarized_mnist, cifar10, errors, load
from genfast.data.matlab import read_mat
from genfast.data.pickles import read_pickle, uint8_array


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENFAST_DATA", raising=False)


_HEADER = 128  # bytes before the first matrix of a MATLAB file


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


# -- sizes that are not to be believed -------------------------------------------------------------


def test_gz_of_a_hundred_gigabytes_is_refused_at_its_header(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    header = struct.pack(">4B3I", 0, 0, 8, 3, 10**8, 25, 40)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.compress(header + bytes(2**16)))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*would need 100\.0 GB"):
        load("mnist", tmp_path)


def test_gz_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binarized_mnist, "_LARGEST_FILE", 2**20)
    for name in ("train", "valid", "test"):
        content = gzip.compress(b"0 " * 2**20)
        (tmp_path / f"binarized_mnist_{name}.amat.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat\.gz: would need"):
        load("binarized-mnist", tmp_path)


def test_npz_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((100, 100, 100), np.uint8))
    monkeypatch.setattr("genfast.data.arrays.memory_limit", lambda: 10**6)
    with pytest.raises(DataError, match=r"a\.npz: would need 0\.0 GB"):
        load(tmp_path / "a.npz")
    monkeypatch.setattr("genfast.data.arrays.memory_limit", lambda: 10**6 + 200)
    with pytest.raises(DataError, match="too few of the 100 images differ"):
        load(tmp_path / "a.npz")


def test_npz_entries_are_not_unpacked_beyond_their_size(tmp_path: Path) -> None:
    """An array header that claims 100 GB over an entry of a few bytes."""
    header = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": (10**8, 25, 40)}
    np.lib.format.write_array_header_1_0(header, form)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(1000))
    with pytest.raises(DataError, match=r"a\.npz: array `images` cannot be read"):
        load(tmp_path / "a.npz")


def test_other_arrays_of_an_npz_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=pixels(12, 4, 4), other=np.array([None]))
    assert load(tmp_path / "a.npz").image_shape == (1, 4, 4)


def test_folder_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, pixels(12, 10, 10))
    monkeypatch.setattr("genfast.data.pictures.memory_limit", lambda: 1199)
    with pytest.raises(DataError, match=r"\(12, 1, 10, 10\): would need"):
        load(tmp_path)


def test_memory_limit_heeds_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(errors, "_CONTAINER_LIMIT", limit)
    whole = errors.memory_limit()
    limit.write_text("max\n")
    assert errors.memory_limit() == whole
    limit.write_text("1000000\n")
    assert errors.memory_limit() == 500_000


# -- pictures --------------------------------------------------------------------------------------


def png(width: int, height: int, depth: int, kind: int, content: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    write_pictures(tmp_path, pixels(12, 4, 4))
    (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 0, bytes(1000)))
    with pytest.raises(DataError, match=r"bomb\.png: not a picture that can be read.*bomb"):
        load(tmp_path, image_size=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.png", png(4, 4, 16, 2, (b"\0" + bytes(24)) * 4)),
        ("deep.png", png(4, 4, 16, 0, (b"\0" + bytes(8)) * 4)),
        ("deep.ppm", b"P6 4 4 65535\n" + bytes(96)),
        ("deep.pgm", b"P5 4 4 65535\n" + bytes(32)),
    ],
)
def test_more_than_8_bits_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    write_pictures(tmp_path, pixels(12, 4, 4))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: has more than 8 bits a colour"):
        load(tmp_path)


def test_postscript_is_not_run_whatever_it_is_called(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(12, 4, 4))
    Image.fromarray(pixels(1, 4, 4)[0]).save(tmp_path / "zz.eps")
    (tmp_path / "zz.eps").rename(tmp_path / "zz.png")
    with Image.open(tmp_path / "zz.png") as picture:
        assert picture.format == "EPS"  # Pillow itself would
    with pytest.raises(DataError, match=r"zz\.png: not a picture that can be read"):
        load(tmp_path)


def test_damaged_pictures_of_every_kind_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(12, 16, 16))
    for suffix in ("png", "jpg", "bmp", "gif", "tif", "webp", "ppm"):
        path = tmp_path / f"zz.{suffix}"
        Image.fromarray(pixels(1, 16, 16, 3)[0]).save(path)
        content = path.read_bytes()
        load(tmp_path)
        for length in (0, 5, len(content) // 4, len(content) // 2):
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=rf"zz\.{suffix}: "):
                load(tmp_path)
        path.unlink()


# -- MATLAB files ----------------------------------------------------------------------------------


def test_matrices_as_scipy_writes_them(tmp_path: Path) -> None:
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    arrays = {f"a{kind}": (pixels(3, 4, seed=1) / 2).astype(kind) for kind in kinds}
    arrays |= {"empty": np.zeros((0, 3)), "long" * 7: np.ones((1, 1)), "b": np.ones((2, 3, 4))}
    for compressed in (False, True):
        savemat(tmp_path / "a.mat", {**arrays, "text": "abc"}, do_compression=compressed)
        found = read_mat(tmp_path / "a.mat")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert np.array_equal(found[name], array)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_mat_file_is_named(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "chardata.mat"
    savemat(path, mat_arrays(8, 6), do_compression=compressed)
    content = path.read_bytes()
    for length in (0, 4, 100, 127, 130, 200, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"chardata\.mat"):
            load("omniglot", tmp_path)
    # Anywhere in the sizes, types and names of the first matrix (scipy's own reader crashes).
    for place in range(_HEADER, _HEADER + 80):
        for value in (0, 1, 0x7F, 0xFF):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                read_mat(path)
            except DataError as error:
                assert "chardata.mat" in str(error)  # noqa: PT017


def test_mat_file_that_unpacks_without_end(tmp_path: Path) -> None:
    packed = zlib.compress(struct.pack("<2I", 14, 2**32 - 8) + bytes(2**20))
    content = bytes(124) + b"\x00\x01IM" + struct.pack("<2I", 15, len(packed)) + packed
    (tmp_path / "chardata.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"chardata\.mat: a compressed matrix: would need 4\.3 GB"):
        load("omniglot", tmp_path)
