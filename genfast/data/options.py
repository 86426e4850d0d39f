"""How images are to be made ready: one dataclass, from which flags and settings can be made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genfast.data.errors import DataError

COLOURS = ("grey", "rgb")
BINARISATIONS = ("threshold", "fixed", "dynamic")


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What is done to every image, in the order colour, crop, resize, levels or binarise, flip.

    Each field's `metadata["help"]` says what it is. Raises `DataError` beginning with the field's
    name.

    >>> ImageOptions(image_size=64, crop=148).colour is None
    True
    >>> ImageOptions(levels=512)
    Traceback (most recent call last):
    ...
    genfast.data.errors.DataError: levels: must be from 2 to 256 (8 bits a colour), got 512
    """

    levels: int | None = _option(None, "levels a colour; 2 binarises (default: the data's own)")
    image_size: int | None = _option(
        None, "resize the short side to this and crop the centre square (default: as stored)"
    )
    crop: int | None = _option(None, "first crop a centre square of this side (CelebA: 148 or 108)")
    colour: str | None = _option(None, "grey or rgb (default: as stored)")
    binarise: str | None = _option(
        None,
        "make two levels: threshold (in the middle), fixed (drawn once with the intensity as "
        "probability) or dynamic (drawn anew each epoch of training)",
    )
    flip: bool = _option(False, "mirror training images left to right at random")

    def __post_init__(self) -> None:
        in_range = self.levels is None or (_is_whole(self.levels) and 2 <= self.levels <= 256)
        _check("levels", self.levels, in_range, "from 2 to 256 (8 bits a colour)")
        for name in ("image_size", "crop"):
            size = getattr(self, name)
            _check(name, size, size is None or (_is_whole(size) and size >= 1), "a whole number from 1")
        _check("colour", self.colour, self.colour in (None, *COLOURS), "grey or rgb")
        known = self.binarise in (None, *BINARISATIONS)
        _check("binarise", self.binarise, known, "threshold, fixed or dynamic")
        clash = self.binarise is not None and self.levels not in (None, 2)
        _check("levels", self.levels, not clash, "2 or left out with binarise")
        _check("flip", self.flip, isinstance(self.flip, bool), "True or False")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise DataError(f"{name}: must be {wanted}, got {value!r}")
