"""Reading the one kind of pickle that CIFAR-10 comes in, without running anything in it."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

from genfast.data.errors import DataError

# What the pickle of a dictionary of lists, strings and numpy arrays may ask for.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Call:
    """A call that a pickle asks for: noted, and never made."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Name:
    """A name that a pickle may mention. It has nothing that a pickle could change."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Call:
        return _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"sets the state of {self.name}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which no such file needs")
        return _Name(name)


def read_pickle(where: object, content: bytes) -> dict[bytes, Any]:
    """The dictionary that `content` holds; its byte strings stay bytes, arrays are still pickled.

    Raises `DataError` naming `where`. Nothing that the pickle asks for is imported or called.
    """
    try:
        _check_memo(content)
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # on damaged pickles the unpickler raises nearly every kind there is
        raise DataError(f"{where}: not a pickle of arrays that can be read ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: must hold a dictionary, found {type(value).__name__}")
    # Python 3 writes str where Python 2 wrote bytes.
    return {key.encode() if isinstance(key, str) else key: item for key, item in value.items()}


def _check_memo(content: bytes) -> None:
    """The unpickler sets aside a table as long as the largest number that a pickle stores under."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"stores under number {argument}")


def uint8_array(where: object, value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A numpy array of bytes from its pickled form."""
    try:
        _, shape, dtype, fortran, data = _noted(value, "_reconstruct").state
        element = _noted(dtype, "dtype").arguments[0]
        content = _as_bytes(data)
        sides = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        right = sides and element in ("u1", b"u1") and not fortran
        if not right or len(content) != math.prod(shape):
            raise ValueError(f"found {element!r} {shape!r} of {len(content)} bytes")
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: must be an array of bytes ({error})") from error
    return np.frombuffer(bytearray(content), dtype=np.uint8).reshape(shape)


def _noted(value: Any, name: str) -> _Call:
    if not isinstance(value, _Call) or value.name != name:
        raise ValueError(f"found {type(value).__name__} in place of {name}")
    return value


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    text, encoding = _noted(value, "encode").arguments  # how protocol 2 writes bytes
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError(f"found bytes as {encoding!r}")
    return text.encode("latin1")
