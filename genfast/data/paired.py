"""Images of two domains, A and B: in pairs (pix2pix) or not (CycleGAN)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from genfast.data.assemble import Stored, assemble, warn_of_shared
from genfast.data.errors import DataError
from genfast.data.folder import PART_FOLDERS, part_folders
from genfast.data.images import ImageData
from genfast.data.options import ImageOptions
from genfast.data.pictures import find_pictures, read_pictures, survey
from genfast.data.splits import group_numbers, joined_groups

LAYOUTS = ("folders", "side-by-side")
_DOMAINS = ("A", "B")

#: The pictures of each part.
_Files = dict[str, list[Path]]


@dataclass(frozen=True)
class PairedData:
    """Pairs: image i of a split of `a` belongs to image i of that split of `b`."""

    a: ImageData
    b: ImageData

    def batch(
        self, split: str, index: Tensor, *, epoch: int = 0, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Pairs of a split: two uint8 tensors (N,C,H,W). Both images of a pair are flipped or none.

        As `ImageData.batch`, a pure function of (seed, epoch, number of the pair).
        """
        a, b = (data.batch(split, index, epoch=epoch, seed=seed)[0] for data in (self.a, self.b))
        return a, b


@dataclass(frozen=True)
class UnpairedData:
    """Two domains of any number of images each."""

    a: ImageData
    b: ImageData

    def batch(
        self, split: str, index_a: Tensor, index_b: Tensor, *, epoch: int = 0, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Images of a split of each domain: uint8 (N,C,H,W) and (M,C,H,W), flipped independently."""
        a, _ = self.a.batch(split, index_a, epoch=epoch, seed=seed)
        # Another seed, or images of the same number would always be flipped alike.
        b, _ = self.b.batch(split, index_b, epoch=epoch, seed=(seed + 2**63) % 2**64)
        return a, b


def load_paired(
    path: str | Path,
    *,
    layout: str = "folders",
    levels: int | None = None,
    image_size: int | None = None,
    crop: int | None = None,
    colour: str | None = None,
    flip: bool = False,
) -> PairedData:
    """Pairs of pictures. Raises `DataError`, among others for a picture without its other half.

    Args:
        path: the folder.
        layout: "folders" (A and B, where pictures of the same name but for the suffix are pairs;
            or trainA, trainB, testA...; or train/A...; or A/train...) or "side-by-side" (pictures
            twice as wide as high, A on the left, in the folder itself or in train, val and test).
        levels, image_size, crop, colour, flip: as in `ImageOptions`.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(12):
    ...         Image.new("RGB", (16, 8), (number, 0, 0)).save(f"{folder}/{number}.png")
    ...     pairs = load_paired(folder, layout="side-by-side")
    >>> len(pairs.a.train), pairs.a.image_shape, pairs.b.image_shape
    (8, (3, 8, 8), (3, 8, 8))
    """
    options = ImageOptions(levels=levels, image_size=image_size, crop=crop, colour=colour, flip=flip)
    path = Path(path).expanduser()
    if layout not in LAYOUTS:
        raise DataError(f"layout: must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "side-by-side":
        files = {part: find_pictures(_folder(folder)) for part, folder in part_folders(path).items()}
        stored = [_side(path, files, half, options) for half in (0, 1)]
    else:
        folders = [_domain_folders(path, domain) for domain in _DOMAINS]
        stored = [_domain(path, domain, options) for domain in _matched(path, folders)]
    digests = [domain.train.digests or () for domain in stored]
    # Two pairs that share one image count as alike, or one would be trained on and the other held out.
    groups = joined_groups(*(group_numbers(each) for each in digests))
    a, b = (assemble(domain, options, groups) for domain in stored)
    _check_size(path, a, b)
    return PairedData(a, b)


def load_unpaired(
    path: str | Path,
    *,
    levels: int | None = None,
    image_size: int | None = None,
    crop: int | None = None,
    colour: str | None = None,
    flip: bool = False,
) -> UnpairedData:
    """Pictures of two domains, which need not match in name or number. Raises `DataError`.

    `path` has folders A and B; or trainA, trainB, testA...; or train/A...; or A/train... The
    options are those of `ImageOptions`.

    >>> import os, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for domain, count in (("A", 12), ("B", 18)):
    ...         os.mkdir(f"{folder}/{domain}")
    ...         for number in range(count):
    ...             Image.new("L", (8, 8), number).save(f"{folder}/{domain}/{number}.png")
    ...     domains = load_unpaired(folder, image_size=4)
    >>> len(domains.a.test), len(domains.b.test), domains.b.image_shape
    (2, 3, (1, 4, 4))
    """
    options = ImageOptions(levels=levels, image_size=image_size, crop=crop, colour=colour, flip=flip)
    path = Path(path).expanduser()
    stored = []
    for domain in _DOMAINS:
        folders = _domain_folders(path, domain)
        files = {part: find_pictures(folder) for part, folder in folders.items()}
        stored.append(_domain(path, files, options))
        warn_of_shared(stored[-1])
    a, b = (assemble(domain, options) for domain in stored)
    _check_size(path, a, b)
    return UnpairedData(a, b)


# -- which pictures --------------------------------------------------------------------------------


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    return path


def _domain_folders(path: Path, domain: str) -> dict[str, Path]:
    """The folder of each part of a domain."""
    ways: tuple[Callable[[str], Path], ...] = (
        lambda name: path / f"{name}{domain}",
        lambda name: path / name / domain,
        lambda name: path / domain / name,
    )
    for way in ways:
        found = {
            part: way(name)
            for part, names in PART_FOLDERS.items()
            for name in reversed(names)
            if way(name).is_dir()
        }
        if "train" in found:
            return found
    if not (path / domain).is_dir():
        raise DataError(f"{path}: no folder {domain}, train{domain}, train/{domain} or {domain}/train")
    return {"train": path / domain}


def _matched(path: Path, folders: Sequence[dict[str, Path]]) -> list[_Files]:
    """The pictures of both domains in the same order; those of one name are a pair."""
    if folders[0].keys() != folders[1].keys():
        parts = " but ".join(", ".join(each) for each in folders)
        raise DataError(f"{path}: A and B must have the same parts, found {parts}")
    matched: list[_Files] = [{}, {}]
    for part in folders[0]:
        named = [_by_name(each[part]) for each in folders]
        for one, other in ((0, 1), (1, 0)):
            alone = [name for name in named[one] if name not in named[other]]
            if alone:
                raise DataError(
                    f"{named[one][alone[0]]}: has no partner in {folders[other][part]} "
                    f"({len(alone)} such pictures); load_unpaired does without"
                )
        for domain in (0, 1):
            matched[domain][part] = [named[domain][name] for name in named[0]]
    return matched


def _by_name(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for file in find_pictures(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{file}: has the same name as {named[name].name}")
        named[name] = file
    return named


# -- reading ---------------------------------------------------------------------------------------


def _domain(path: Path, files: _Files, options: ImageOptions) -> Stored:
    form = survey([file for part in files.values() for file in part], options)
    parts = {part: read_pictures(each, form, options) for part, each in files.items()}
    return Stored(str(path), path, parts)


def _side(path: Path, files: _Files, half: int, options: ImageOptions) -> Stored:
    form = survey([file for part in files.values() for file in part], options, halves=True)
    parts = {part: read_pictures(each, form, options, half=half) for part, each in files.items()}
    return Stored(str(path), path, parts)


def _check_size(path: Path, a: ImageData, b: ImageData) -> None:
    sizes = [data.image_shape[1:] for data in (a, b)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{path}: A and B differ in size, {sizes[0]} and {sizes[1]}; image_size makes them alike"
        )
