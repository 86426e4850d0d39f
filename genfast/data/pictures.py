"""Reading picture files: found in a fixed order, decoded without trust, never more than 8 bits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.assemble import Part
from genfast.data.errors import DataError, memory_limit, refuse_beyond
from genfast.data.extras import require
from genfast.data.options import ImageOptions
from genfast.data.shaping import channels_first, fitted, fitted_size

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
# Only these are tried, whatever a file is called: Pillow reads PostScript by running Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_GREY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Form:
    """What pictures have in common: mode "L" or "RGB", and their stored (width, height)."""

    mode: str
    size: tuple[int, int]


def find_pictures(folder: Path) -> list[Path]:
    """Every picture in a folder and the folders in it, in the same order on every machine.

    Hidden files and folders and those that macOS adds to archives are left out.
    """
    found: dict[str, Path] = {}
    for file in folder.rglob("*"):
        inner = file.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inner.parts)
        if file.suffix.lower() in _SUFFIXES and not hidden and file.is_file():
            # File systems differ in how they store accents.
            found[unicodedata.normalize("NFC", inner.as_posix())] = file
    if not found:
        raise DataError(f"{folder}: no pictures found ({', '.join(sorted(_SUFFIXES))})")
    return [found[name] for name in sorted(found)]


def survey(files: Sequence[Path], options: ImageOptions, *, halves: bool = False) -> Form:
    """What all `files` have in common, by their headers alone.

    RGB if any is in colour, unless `options` say. Sizes may differ only where `options` even them
    out. `halves`: each is a pair side by side, twice as wide as high.
    """
    size: tuple[int, int] | None = None
    colour = False
    with warnings.catch_warnings():
        # Pillow only warns of pictures of 89 to 179 million pixels, and refuses larger ones.
        warnings.simplefilter("error", require("PIL.Image").DecompressionBombWarning)
        for file in files:
            with _opened(file, "not a picture that can be read") as picture:
                if _is_deep(picture):
                    raise DataError(f"{file}: has more than 8 bits a colour (mode {picture.mode})")
                found = picture.size
                colour = colour or picture.mode not in _GREY_MODES
            if halves and found[0] != 2 * found[1]:
                raise DataError(f"{file}: a pair side by side must be twice as wide as high, is {found}")
            size = size or found
            if found != size and fitted_size(found, options) != fitted_size(size, options):
                raise DataError(
                    f"{file}: is {found} pixels, the pictures before it {size}; "
                    "image_size or crop makes them alike"
                )
    if size is None:
        raise DataError("no pictures given")
    wanted = {"grey": "L", "rgb": "RGB", None: "RGB" if colour else "L"}[options.colour]
    return Form(wanted, size)


def read_pictures(
    files: Sequence[Path],
    form: Form,
    options: ImageOptions,
    labels: Tensor | None = None,
    *,
    invert: bool = False,
    half: int | None = None,
) -> Part:
    """Decode `files` -> the part that they make. `half` 0 or 1: only the left or right half."""
    size = form.size if half is None else (form.size[0] // 2, form.size[1])
    width, height = fitted_size(size, options)
    shape = (len(files), 3 if form.mode == "RGB" else 1, height, width)
    where = f"{files[0].parent} and further pictures: {shape}"
    refuse_beyond(memory_limit(), where, len(files) * shape[1] * height * width)
    images = np.empty(shape, dtype=np.uint8)

    def read(number: int) -> bytes:
        with _opened(files[number], "picture is damaged") as picture:
            if half is not None:
                middle = picture.width // 2
                picture = picture.crop((half * middle, 0, (half + 1) * middle, picture.height))
            digest = _digest(picture)
            pixels = channels_first(fitted(_converted(picture, form.mode), options, files[number]))
        images[number] = 255 - pixels if invert else pixels
        return digest

    # Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(read, range(len(files))))
    return Part(torch.from_numpy(images), labels, digests)


@contextlib.contextmanager
def _opened(file: Path, what: str) -> Iterator[Any]:
    image = require("PIL.Image")
    try:
        with image.open(file, formats=_FORMATS) as picture:
            yield picture
    except DataError:
        raise
    except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
        raise DataError(f"{file}: {what} ({error})") from error


def _is_deep(picture: Any) -> bool:
    """Has more than 8 bits a colour, which Pillow would drop from colour pictures without a word."""
    if picture.mode.startswith(("I", "F")):
        return True
    for *_, arguments in picture.tile:
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        if any(isinstance(value, str) and ";16" in value for value in values):
            return True
        if picture.format == "PPM" and any(isinstance(v, int) and v > 255 for v in values):
            return True
    return False


def _converted(picture: Any, mode: str) -> Any:
    # Pillow warns of palettes with transparency unless it is resolved first.
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _digest(picture: Any) -> bytes:
    """Of the pixels, so that the same image in another file format counts as the same."""
    pixels = _converted(picture, "RGB")
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=_salt(pixels.size)).digest()


def _salt(size: tuple[int, int]) -> bytes:
    return size[0].to_bytes(8, "little") + size[1].to_bytes(8, "little")
