"""Images of two domains A and B as one data set: the channels of A, then those of B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genfast.data.errors import DataError
from genfast.data.images import SPLITS, ImageData
from genfast.data.paired import LAYOUTS, PairedData, UnpairedData, load_paired, load_unpaired
from genfast.data.registry import load
from genfast.data.splits import Split, take


@dataclass(frozen=True, kw_only=True)
class DomainData(ImageData):
    """Image i is an image of A and one of B, joined along the channels; A has `input_channels`."""

    input_channels: int


@dataclass(frozen=True, kw_only=True)
class UnpairedDomainData(DomainData):
    """Training images of A in their order, each with any image of B, another one in every epoch."""

    domains: UnpairedData

    def batch(
        self, split: str, index: Tensor, *, epoch: int = 0, seed: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """As `ImageData.batch`; the order of B is a permutation keyed by (seed, epoch)."""
        if split != "train":
            return super().batch(split, index, epoch=epoch, seed=seed)
        of_a, of_b = len(self.domains.a.train), len(self.domains.b.train)
        order = torch.from_numpy(np.random.default_rng([seed, epoch, 1]).permutation(of_b))
        a, b = self.domains.batch("train", index % of_a, order[index % of_b], epoch=epoch, seed=seed)
        return torch.cat([a, b], 1), None


def outlines(images: Tensor, levels: int) -> Tensor:
    """Levels (N,C,H,W) -> (N,1,H,W): white where a bright pixel has a dark neighbour, else black.

    Bright is the upper half of the levels, of the mean of the colours; outside the image is dark.

    >>> square = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    >>> square[:, :, 1:4, 1:4] = 16
    >>> outlines(square, 17)[0, 0, 2].tolist()
    [0, 16, 0, 16, 0]
    """
    bright = images.float().mean(1, keepdim=True) > (levels - 1) / 2
    dark = torch.nn.functional.pad(~bright, (1, 1, 1, 1), value=True)
    beside = dark[..., :-2, 1:-1] | dark[..., 2:, 1:-1] | dark[..., 1:-1, :-2] | dark[..., 1:-1, 2:]
    return ((bright & beside) * (levels - 1)).to(images.dtype)


def _edges(images: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    return outlines(images, levels), images


def _negative(images: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    return images, levels - 1 - images


#: Ways to make two domains of one: from images (N,C,H,W) and their levels, A and B.
MADE: dict[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {
    "edges": _edges,
    "negative": _negative,
}
#: Where the two domains may come from.
DOMAINS = (*LAYOUTS, *MADE)


def load_domains(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    *,
    domains: str = "folders",
    paired: bool,
    levels: int | None = None,
    image_size: int | None = None,
    crop: int | None = None,
    colour: str | None = None,
    flip: bool = False,
) -> DomainData:
    """Two domains, in pairs or not. Raises `DataError`.

    Args:
        name_or_path: a folder as of `load_paired` or `load_unpaired`; with made domains anything that
            `load` takes.
        data_dir: where named data sets have their files.
        domains: "folders" or "side-by-side" (pairs only); or made from single images: "edges" (A has
            the outlines, B the images) or "negative" (B has the negatives).
        paired: whether A and B of a training image belong together. Of made domains that are not
            paired, A comes from the first half of the training images and B from the second; held-out
            images are pairs all the same, so that the truth is known.
        levels, image_size, crop, colour, flip: as in `ImageOptions`.

    >>> data = load_domains("digits", domains="edges", paired=True)
    >>> data.image_shape, data.input_channels
    ((2, 8, 8), 1)
    """
    options = {"levels": levels, "image_size": image_size, "crop": crop, "colour": colour, "flip": flip}
    if domains not in DOMAINS:
        raise DataError(f"domains: must be one of {', '.join(DOMAINS)}, got {domains!r}")
    if domains in MADE:
        whole = load(name_or_path, data_dir, **options)  # type: ignore[arg-type]
        a, b = _made(whole, domains, paired)
    elif paired:
        pairs = load_paired(name_or_path, layout=domains, **options)  # type: ignore[arg-type]
        a, b = pairs.a, pairs.b
    elif domains == "side-by-side":
        raise DataError("domains: side-by-side pictures are pairs, this model takes none")
    else:
        unpaired = load_unpaired(name_or_path, **options)  # type: ignore[arg-type]
        a, b = unpaired.a, unpaired.b
    return joined(PairedData(a, b) if paired else UnpairedData(a, b))


def joined(domains: PairedData | UnpairedData) -> DomainData:
    """Both domains as one data set. Raises `DataError` if their levels differ.

    Unpaired domains of different size are gone through in turn, as long as the larger one takes.
    """
    a, b = domains.a, domains.b
    if a.levels != b.levels:
        raise DataError(f"{a.name}: A has {a.levels} levels and B {b.levels}; levels makes them alike")
    splits = {}
    for name in SPLITS:
        of_a, of_b = getattr(a, name).images, getattr(b, name).images
        number = torch.arange(max(len(of_a), len(of_b)) if len(of_a) and len(of_b) else 0)
        images = [of_a[number % max(1, len(of_a))], of_b[number % max(1, len(of_b))]]
        splits[name] = Split(torch.cat(images, 1))
    common = {"levels": a.levels, "flip": a.flip, "input_channels": a.image_shape[0]}
    if isinstance(domains, PairedData):
        return DomainData(a.name, **splits, **common)  # type: ignore[arg-type]
    return UnpairedDomainData(a.name, **splits, **common, domains=domains)  # type: ignore[arg-type]


def _made(data: ImageData, domains: str, paired: bool) -> tuple[ImageData, ImageData]:
    """A and B of made domains."""
    make, half = MADE[domains], len(data.train) // 2
    every = torch.arange(len(data.train))
    of_train = (every, every) if paired else (every[:half], every[half:])
    sides = []
    for side in (0, 1):
        splits = {name: Split(make(getattr(data, name).images, data.levels)[side]) for name in SPLITS}
        splits["train"] = take(splits["train"], of_train[side])
        kept = {f.name: getattr(data, f.name) for f in fields(ImageData) if f.name not in splits}
        sides.append(ImageData(**{**kept, **splits, "num_classes": 0, "intensities": None}))
    return sides[0], sides[1]
