"""Reading matrices of numbers from a MATLAB 5 file (.mat), without trusting any size in it.

After "MAT-File Format" (The MathWorks), levels 5 and 7. Not by scipy, whose reader can crash the
process on a damaged file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genfast.data.errors import DataError, refuse_beyond

_HEADER = 128
_LARGEST = 2**30  # bytes of a matrix: seven times the largest of chardata.mat
_MATRIX, _COMPRESSED = 14, 15
#: numpy's names of the element types.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the whole numbers; not cells, structures, text
_COMPLEX = 0x0800


@dataclass(frozen=True)
class _Element:
    kind: int
    content: memoryview


def read_mat(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The real matrices of numbers in a file by their names. Raises `DataError` naming the file."""
    try:
        refuse_beyond(_LARGEST, path, path.stat().st_size)
        content = memoryview(path.read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
        if len(content) < _HEADER or order is None:
            raise ValueError("does not begin as one")
        found = (_matrix(element, order) for element in _elements(content[_HEADER:], order))
        return dict(named for named in found if named is not None)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: not a MATLAB 5 file that can be read ({error})") from error


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    while len(content):
        element, content = _next(content, order)
        yield _unpacked(element, order) if element.kind == _COMPRESSED else element


def _next(content: memoryview, order: str) -> tuple[_Element, memoryview]:
    """The element at the start of `content`, and what follows it."""
    kind, size = struct.unpack_from(f"{order}2I", content)
    if kind >> 16:  # up to four bytes within the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        start, end = 4, 8
    else:
        start = 8
        end = 8 + size if kind == _COMPRESSED else 8 + -(-size // 8) * 8
    if size > len(content) - start:
        raise ValueError(f"needs {size} bytes where {len(content) - start} are left")
    return _Element(kind, content[start : start + size]), content[end:]


def _unpacked(element: _Element, order: str) -> _Element:
    stream = zlib.decompressobj()
    tag = stream.decompress(element.content, 8)
    kind, size = struct.unpack(f"{order}2I", tag)
    refuse_beyond(_LARGEST, "a compressed matrix", size)
    content = stream.decompress(stream.unconsumed_tail, size) if size else b""
    if len(content) < size:
        raise ValueError(f"a compressed matrix of {size} bytes has {len(content)}")
    return _Element(kind, memoryview(content))


def _matrix(element: _Element, order: str) -> tuple[str, np.ndarray[Any, Any]] | None:
    """Name and values; None if it is no real matrix of numbers."""
    if element.kind != _MATRIX:
        return None
    flags, rest = _next(element.content, order)
    (flag_bits,) = struct.unpack_from(f"{order}I", flags.content)
    if flag_bits & 0xFF not in _NUMERIC_CLASSES or flag_bits & _COMPLEX:
        return None
    dimensions, rest = _next(rest, order)
    name, rest = _next(rest, order)
    values, _ = _next(rest, order)
    shape = np.frombuffer(dimensions.content, f"{order}i4").tolist()
    array = np.frombuffer(values.content, order + _NUMBERS[values.kind])
    if not shape or min(shape) < 0 or math.prod(shape) != len(array):
        raise ValueError(f"a matrix {tuple(shape)} has {len(array)} values")
    return bytes(name.content).decode("latin1"), array.reshape(shape, order="F")
