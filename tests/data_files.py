"""Small data sets in the formats that the real ones come in."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def rows(*images: object) -> list[list[int]]:
    """All images of several splits or arrays, flat and sorted."""
    return sorted(row for array in images for row in np.asarray(array).reshape(len(array), -1).tolist())


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(
    folder: Path, train: int = 12, test: int = 4, packed: bool = False, first: int = 0
) -> None:
    """A small MNIST: image i is filled with the value first + i, its label is the last digit."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        values = np.arange(first, first + count, dtype=np.uint8)
        images = np.broadcast_to(values[:, None, None], (count, 4, 3))
        for name, array in (("images-idx3", images), ("labels-idx1", values % 10)):
            content = idx_bytes(np.ascontiguousarray(array))
            path = folder / f"{part}-{name}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


def write_pictures(folder: Path, arrays: np.ndarray, start: int = 0, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, array in enumerate(arrays, start):
        Image.fromarray(array).save(folder / f"{number:02}{suffix}")


# -- CIFAR-10 --------------------------------------------------------------------------------------

CIFAR_NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def cifar_arrays() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Four images a batch: rows of 3072 bytes and labels."""
    return {
        name: (pixels(4, 3072, seed=number), [number, 9, 0, 1])
        for number, name in enumerate(CIFAR_NAMES)
    }


def python2_pickle(
    data: np.ndarray, labels: list[int], module: bytes = b"numpy.core.multiarray"
) -> bytes:
    """The batch as Python 2 and its numpy wrote it, by hand: protocol 2, byte strings."""

    def string(value: bytes) -> bytes:
        if len(value) < 256:
            return b"U" + struct.pack("<B", len(value)) + value
        return b"T" + struct.pack("<I", len(value)) + value

    def whole(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n" + string(b"u1") + whole(0) + whole(1) + b"\x87R"
    dtype += b"(" + whole(3) + string(b"|") + b"NNN" + whole(-1) * 2 + whole(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n"
    array += whole(0) + b"\x85" + string(b"b") + b"\x87R"
    array += b"(" + whole(1) + b"".join(map(whole, data.shape)) + b"\x86" + dtype + b"\x89"
    array += string(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(whole, labels)) + b"e"
    items = string(b"data") + array + string(b"labels") + listed
    items += string(b"batch_label") + string(b"testing batch 1 of 1")
    return b"\x80\x02}(" + items + b"u."


def python3_pickle(data: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    return pickle.dumps({"data": data, "labels": labels}, protocol=protocol)


def binary_batch(data: np.ndarray, labels: list[int]) -> bytes:
    return np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1).tobytes()


def write_cifar(folder: Path, form: str) -> None:
    """`form`: "py" or "bin", or either with ".tar.gz"."""
    form, _, packed = form.partition(".")
    encode = {"py": python2_pickle, "bin": binary_batch}[form]
    contents = {
        name + (".bin" if form == "bin" else ""): encode(data, labels)
        for name, (data, labels) in cifar_arrays().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    if packed:
        name = {"py": "python", "bin": "binary"}[form]
        write_tar(folder / f"cifar-10-{name}.tar.gz", f"cifar-10-batches-{form}", contents)
        return
    inner = folder / f"cifar-10-batches-{form}"
    inner.mkdir()
    for name, content in contents.items():
        (inner / name).write_bytes(content)


def write_tar(path: Path, folder: str, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"readme.html": b"hello", **contents}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


# -- Omniglot --------------------------------------------------------------------------------------


def write_omniglot(folder: Path) -> dict[str, np.ndarray]:
    """Two alphabets of two characters of five drawings, one alphabet of two for evaluation."""
    drawings = {}
    number = 0
    for part, alphabets in (("background", ("Greek", "Latin")), ("evaluation", ("Angelic",))):
        for alphabet in alphabets:
            for character in (1, 2):
                inner = folder / f"images_{part}" / alphabet / f"character{character:02}"
                inner.mkdir(parents=True)
                for drawer in range(5):
                    number += 1
                    drawing = pixels(1, 12, 12, seed=number)[0] > 127
                    Image.fromarray(drawing).save(inner / f"{number:04}_{drawer + 1:02}.png")
                    drawings[f"{part}/{alphabet}/{character}/{drawer}"] = drawing
    return drawings


def mat_arrays(train: int = 40, test: int = 6) -> dict[str, np.ndarray]:
    """As `chardata.mat`: images column by column with values from 0 to 1, alphabets one-hot."""
    arrays = {}
    for prefix, count in (("", train), ("test", test)):
        images = pixels(count, 28, 28, seed=count)
        arrays[f"{prefix}data"] = images.transpose(0, 2, 1).reshape(count, -1).T / 255
        arrays[f"{prefix}target"] = np.eye(3)[:, np.arange(count) % 3]
        arrays[f"{prefix}targetchar"] = 1.0 + np.arange(count)[None] % 2
    return arrays
