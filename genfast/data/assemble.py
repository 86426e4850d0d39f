"""From images as they are stored to `ImageData`: splits, levels, binarisation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data.draws import binarised_once
from genfast.data.errors import DataError
from genfast.data.extras import require
from genfast.data.images import ImageData, quantise
from genfast.data.options import ImageOptions
from genfast.data.shaping import channels_first, fitted
from genfast.data.splits import Split, content_digests, group_numbers, hold_out_indices


@dataclass(frozen=True)
class Part:
    """Images that are stored together: uint8 (N,C,H,W), in the size and colour asked for.

    `digests` are of the images as stored, so that no option changes a split; None where the split
    does not need them.
    """

    images: Tensor
    labels: Tensor | None = None
    digests: Sequence[bytes] | None = None


@dataclass(frozen=True)
class Stored:
    """A data set as its files give it: the `parts` "train", "validation" and "test" that it keeps apart.

    Without a validation part, `held` training images are held out for it (None: one in six): the
    last ones if `in_order`, else at random. Without a test part a validation part is taken for it.
    Without either, one in six is held out for each. `where` is named in errors.
    """

    name: str
    where: object
    parts: Mapping[str, Part]
    levels: int = 256
    num_classes: int = 0
    held: int | None = None
    in_order: bool = False

    @property
    def train(self) -> Part:
        return self.parts["train"]

    @property
    def validation(self) -> Part | None:
        return self.parts.get("validation") if "test" in self.parts else None

    @property
    def test(self) -> Part | None:
        return self.parts.get("test") or self.parts.get("validation")


def array_part(
    images: Tensor,
    labels: Tensor | None,
    options: ImageOptions,
    where: object,
    *,
    levels: int = 256,
    digests: bool = True,
) -> Part:
    """A part from an array of images (N,C,H,W) of `levels` levels, all brought in form."""
    digest_list = content_digests(images) if digests else None
    # Resizing overshoots at edges; the levels of few-levelled images end below 255.
    shaped = _shaped(images, options, where)
    shaped = shaped if levels == 256 else shaped.clamp(max=levels - 1)
    return Part(shaped, labels, digest_list)


def _shaped(images: Tensor, options: ImageOptions, where: object) -> Tensor:
    channels = images.shape[1]
    wanted = {"grey": 1, "rgb": 3, None: channels}[options.colour]
    if options.crop is None and options.image_size is None and wanted == channels:
        return images
    image = require("PIL.Image")
    arrays = images.permute(0, 2, 3, 1).numpy()
    arrays = arrays[..., 0] if channels == 1 else arrays

    def shape(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        picture = image.fromarray(np.ascontiguousarray(array))
        return channels_first(fitted(picture.convert("RGB" if wanted == 3 else "L"), options, where))

    first = shape(arrays[0])
    result = np.empty((len(arrays), *first.shape), dtype=np.uint8)
    for number, array in enumerate(arrays):
        result[number] = shape(array)
    return torch.from_numpy(result)


def assemble(stored: Stored, options: ImageOptions, groups: Sequence[int] | None = None) -> ImageData:
    """Split and quantise. `groups` (default: images alike) are not parted when splitting."""
    _check_alike(stored)
    train, validation, test = _indices(stored, groups)
    chosen = (
        (stored.train, train, 0),
        (stored.validation or stored.train, validation, 1 if stored.validation else 0),
        (stored.test or stored.train, test, 2 if stored.test else 0),
    )
    splits = [_split(part, index, number, stored.levels, options) for part, index, number in chosen]
    return ImageData(
        stored.name,
        2 if options.binarise else options.levels or stored.levels,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        num_classes=stored.num_classes,
        flip=options.flip,
        intensities=stored.train.images[train] if options.binarise == "dynamic" else None,
        intensity_levels=stored.levels,
    )


def _split(part: Part, index: Tensor, number: int, levels: int, options: ImageOptions) -> Split:
    values = part.images[index]
    if options.binarise in ("fixed", "dynamic"):
        values = binarised_once(values, levels, number, index)
    else:
        values = quantise(values, levels, 2 if options.binarise else options.levels)
    return Split(values, None if part.labels is None else part.labels[index])


def _indices(stored: Stored, groups: Sequence[int] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the train, validation and test images in the parts that they come from."""
    count = len(stored.train.images)
    everything = torch.arange(count)
    if stored.validation is not None and stored.test is not None:
        validation, test = (torch.arange(len(p.images)) for p in (stored.validation, stored.test))
        return everything, validation, test
    held = count // 6 if stored.held is None else stored.held
    if stored.in_order and stored.test is not None:
        test = torch.arange(len(stored.test.images))
        return everything[: count - held], everything[count - held :], test
    try:
        return _random_indices(stored, groups, held)
    except DataError as error:
        raise DataError(f"{stored.where}: {error}") from error


def _random_indices(
    stored: Stored, groups: Sequence[int] | None, held: int
) -> tuple[Tensor, Tensor, Tensor]:
    if groups is None:
        groups = group_numbers(stored.train.digests or content_digests(stored.train.images))
    if stored.test is not None:
        return *hold_out_indices(groups, held, 6), torch.arange(len(stored.test.images))
    rest, test = hold_out_indices(groups, len(groups) // 6, 6)
    rest_groups = [groups[number] for number in rest.tolist()]
    train, validation = hold_out_indices(rest_groups, len(rest) // 5, 5)
    return rest[train], rest[validation], test


def _check_alike(stored: Stored) -> None:
    for name, part in stored.parts.items():
        shapes = [tuple(p.images.shape[1:]) for p in (stored.train, part)]
        if shapes[0] != shapes[1]:
            raise DataError(f"{stored.where}: training and {name} images differ in shape: {shapes}")
        if (part.labels is None) != (stored.train.labels is None):
            raise DataError(f"{stored.where}: has labels for only one of the training and {name} images")


def warn_of_shared(stored: Stored) -> None:
    """Warn if a user's own training images are also among those that they are tested on."""
    known = set(stored.train.digests or ())
    for name, part in stored.parts.items():
        shared = sum(digest in known for digest in part.digests or ()) if name != "train" else 0
        if shared:
            warnings.warn(
                f"{stored.where}: {shared} {name} images are also training images", stacklevel=5
            )
