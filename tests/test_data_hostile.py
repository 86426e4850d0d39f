"""Damaged and hostile files: an error that names the file; no code run, no memory filled."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    mat_arrays,
    pixels,
    write_mnist,
    write_pictures,
)
from PIL import Image
from scipy.io import savemat

from genfast.data import DataError, binarized_mnist, errors, load
from genfast.data.matlab import read_mat

_HEADER = 128  # bytes before the first matrix of a MATLAB file


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
