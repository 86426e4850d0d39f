"""The IDX file format of MNIST and its relatives: big-endian sizes, then bytes; gzipped or not."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genfast.data.errors import LARGEST_NAMED_SET, DataError, refuse_beyond
from genfast.data.reading import open_packed, read_at_most

_UBYTE = 0x08  # the only element type that image and label files use


def read_idx(path: Path, dims: int) -> Tensor:
    """Read an IDX file of unsigned bytes with `dims` dimensions -> uint8 tensor.

    Raises `DataError` naming the file, what was expected and what was found.
    """
    try:
        with open_packed(path) as file:
            header = file.read(4 + 4 * dims)
            shape = _shape(path, header, dims)
            expected = math.prod(shape)
            refuse_beyond(LARGEST_NAMED_SET, f"{path}: {shape}", expected)
            # One byte more than expected tells a longer file; a hostile one is not read to its end.
            payload = read_at_most(file, expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, is it damaged? ({error})") from error
    if len(payload) != expected:
        found = f"only {len(payload)}" if len(payload) < expected else "more"
        raise DataError(f"{path}: {shape} needs {expected} bytes after the header, found {found}")
    return torch.from_numpy(np.frombuffer(payload, dtype=np.uint8).reshape(shape))


def _shape(path: Path, header: bytes, dims: int) -> tuple[int, ...]:
    magic = bytes([0, 0, _UBYTE, dims])
    if header[:4] != magic:
        raise DataError(
            f"{path}: not an IDX file of bytes in {dims} dimensions: "
            f"expected to begin with {magic.hex(' ')}, found {header[:4].hex(' ') or 'nothing'}"
        )
    if len(header) < 4 + 4 * dims:
        raise DataError(f"{path}: header needs {4 + 4 * dims} bytes, found {len(header)}")
    return struct.unpack(f">{dims}I", header[4:])
