"""CIFAR-10: 50,000 + 10,000 colour images of 32x32, from its Python or its binary version."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from genfast.data.assemble import Part, Stored, array_part
from genfast.data.errors import DataError, refuse_beyond
from genfast.data.options import ImageOptions
from genfast.data.pickles import read_pickle, uint8_array
from genfast.data.reading import Layout, locate, read_at_most

_SIDE = 32
_ROW = 3 * _SIDE * _SIDE  # all red values, then green, then blue
_LARGEST_FILE = 2**28  # nine times a batch of 10,000
_LARGEST_ARCHIVE = 2**30  # five times all batches

_Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

_PYTHON = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_BINARY = tuple(f"{name}.bin" for name in _PYTHON)
_PLACES = (".", "cifar10", "CIFAR10", "cifar-10")


def _inside(folder: str) -> tuple[str, ...]:
    return tuple(f"{place}/{folder}" if place != "." else folder for place in _PLACES)


_LAYOUTS = (
    Layout(_PYTHON, _inside("cifar-10-batches-py")),
    Layout(_BINARY, _inside("cifar-10-batches-bin")),
    Layout(("cifar-10-python.tar.gz",), _PLACES),
    Layout(("cifar-10-binary.tar.gz",), _PLACES),
)


def load_cifar10(data_dir: Path | None, options: ImageOptions) -> Stored:
    """CIFAR-10 under `data_dir`; one in ten of the training images is for validation."""
    layout, paths = locate("cifar10", data_dir, _LAYOUTS)
    binary = "bin" in paths[0].name
    names = _BINARY if binary else _PYTHON
    if len(layout.names) == 1:
        contents = _unpack(paths[0], names)
    else:
        contents = {path.name: _read(path) for path in paths}
    where = {name: paths[0] / name if len(paths) == 1 else paths[0].parent / name for name in names}
    parse: Callable[[object, bytes], _Rows] = _binary_rows if binary else _pickled_rows
    batches = [parse(where[name], contents[name]) for name in names]
    parts = {
        name: _part(chosen, options, paths[0].parent)
        for name, chosen in (("train", batches[:5]), ("test", batches[5:]))
    }
    held = len(parts["train"].images) // 10
    return Stored("cifar10", paths[0].parent, parts, num_classes=10, held=held)


def _part(batches: list[_Rows], options: ImageOptions, where: object) -> Part:
    pixels = np.concatenate([rows for rows, _ in batches]).reshape(-1, 3, _SIDE, _SIDE)
    labels = np.concatenate([labels for _, labels in batches]).astype(np.int64)
    return array_part(torch.from_numpy(pixels), torch.from_numpy(labels), options, where)


def _pickled_rows(where: object, content: bytes) -> _Rows:
    batch = read_pickle(where, content)
    for key in (b"data", b"labels"):
        if key not in batch:
            raise DataError(f"{where}: has no entry {key.decode()!r}")
    rows = uint8_array(f"{where}: entry 'data'", batch[b"data"])
    if rows.ndim != 2 or rows.shape[1] != _ROW or len(rows) == 0:
        raise DataError(f"{where}: images must be (N, {_ROW}), found {rows.shape}")
    labels = batch[b"labels"]
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not whole or len(labels) != len(rows):
        raise DataError(f"{where}: labels must be {len(rows)} whole numbers")
    return rows, _checked(where, labels)


def _binary_rows(where: object, content: bytes) -> _Rows:
    if len(content) == 0 or len(content) % (_ROW + 1):
        raise DataError(
            f"{where}: must be a multiple of {_ROW + 1} bytes (label and image), is {len(content)}"
        )
    table = np.frombuffer(content, dtype=np.uint8).reshape(-1, _ROW + 1)
    return table[:, 1:], _checked(where, table[:, 0].tolist())


def _checked(where: object, labels: list[int]) -> np.ndarray[Any, Any]:
    if not 0 <= min(labels) <= max(labels) <= 9:
        raise DataError(f"{where}: labels from 0 to 9 expected, found {min(labels)} to {max(labels)}")
    return np.array(labels)


# -- files and archives ----------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        refuse_beyond(_LARGEST_FILE, path, path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


class _Bounded:
    """A stream that refuses to go on past a limit: an archive may unpack to any size."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.count = file, path, 0

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.count += len(content)
        refuse_beyond(_LARGEST_ARCHIVE, self.path, self.count)
        return content


def _unpack(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files `names` of a .tar.gz, in memory: nothing is written, paths in it mean nothing."""
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(path, "rb") as packed:
            stream: Any = _Bounded(packed, path)  # type: ignore[arg-type]
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    file = archive.extractfile(member) if name in names and member.isreg() else None
                    if file is not None:
                        refuse_beyond(_LARGEST_FILE, f"{path}: {name}", member.size)
                        contents[name] = bytes(read_at_most(file, member.size))  # type: ignore[arg-type]
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: archive is damaged ({error})") from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path}: archive has no file {', '.join(missing)}")
    return contents
