"""Files of drawn images: one picture of a grid, an .npz archive, or a folder of single pictures.

All but the grid are written as the images come, so their number is not bounded by memory.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from genfast.training.files import open_atomically, write_json
from genfast.training.images import image_grid, save_png, to_bytes, to_picture
from genfast.training.samples import Drawing

#: Numbers of the images, and their levels (n,C,H,W), as `Drawing.batches` gives them.
Batches = Iterable[tuple[range, Tensor]]

#: Most images in a grid: beyond this nobody sees anything, and a grid is made in memory.
MAX_GRID = 1024

#: The file in a folder of single pictures that says what they are drawn from.
MANIFEST = "samples.json"


def check_grid(count: int) -> None:
    """Raises `ValueError` if a grid of `count` images is too large."""
    if count > MAX_GRID:
        raise ValueError(
            f"{count:,} images are too many for one grid (at most {MAX_GRID:,}): "
            "let --out end in .npz, or in / for a folder of single files"
        )


def save_grid(path: str | Path, drawing: Drawing, numbers: range, batches: Batches) -> None:
    """One PNG with all images in rows; a column for each class where the classes come in turn.

    Raises `ValueError` for more than `MAX_GRID` images, and `OSError`.
    """
    check_grid(len(numbers))
    classes = drawing.model.num_classes
    in_turn = drawing.label is None and drawing.given is None and 1 < classes <= 16
    with open_atomically(path) as file:  # at once: an unwritable folder shows before the drawing
        images = torch.cat([part for _, part in batches])
        picture = image_grid(images, drawing.levels, classes if in_turn else None)
        picture.save(file, format="PNG")


def save_npz(path: str | Path, drawing: Drawing, numbers: range, batches: Batches) -> None:
    """An .npz archive with the arrays

    - `images`, uint8 (N,H,W,C): 0 is black and 255 white, whatever the number of levels;
    - `levels`, int64 (): the model's levels L; an image's level is round(value * (L-1) / 255);
    - `labels`, int64 (N,): the classes; only of a conditional model.

    There whole or not at all, and the same bytes for the same images. Raises `OSError`.
    """
    model = drawing.model
    channels, height, width = getattr(model, "sample_shape", model.image_shape)
    with open_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with _member(archive, "images", np.uint8, (len(numbers), height, width, channels)) as member:
            for _, images in batches:
                pixels = to_bytes(images, drawing.levels).permute(0, 2, 3, 1)
                member.write(pixels.contiguous().numpy().tobytes())
        with _member(archive, "levels", np.int64, ()) as member:
            member.write(np.int64(drawing.levels).tobytes())
        if model.num_classes:
            with _member(archive, "labels", np.int64, (len(numbers),)) as member:
                for first in range(0, len(numbers), 1 << 16):
                    labels = drawing.labels(numbers[first : first + (1 << 16)])
                    assert labels is not None
                    member.write(labels.numpy().tobytes())


def _member(archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...]) -> IO[bytes]:
    """An array of `archive` whose header is written, and whose content is to be written to it."""
    # A ZipInfo of its own has no time of day in it: the same images make the same file.
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = archive.compression
    member = archive.open(info, "w", force_zip64=True)
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    return member


def save_files(folder: str | Path, drawing: Drawing, batches: Batches) -> None:
    """A PNG for each image, named by its number, each pixel one pixel. Raises `OSError`."""
    for numbers, images in batches:
        pixels = to_bytes(images, drawing.levels)
        for number, image in zip(numbers, pixels, strict=True):
            save_png(_file(Path(folder), number), to_picture(image))


def open_folder(
    folder: str | Path, drawing: Drawing, numbers: range, *, resume: bool = False
) -> list[range]:
    """Make a folder for `save_files` -> the numbers of the images that are not in it yet.

    With `resume` it may be one that holds images of this very drawing.
    Raises `FileExistsError` or `ValueError` if it holds anything else.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    described = json.loads(json.dumps(drawing.describe()))
    if manifest.exists():
        if not resume:
            raise FileExistsError(
                f"{folder} holds samples already: draw what is missing by --resume, "
                "or choose another --out"
            )
        _check_manifest(manifest, described)
    elif folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty and holds no samples: choose another --out")
    else:
        write_json(manifest, described)
    return _missing(folder, numbers)


def _check_manifest(manifest: Path, described: dict[str, Any]) -> None:
    try:
        found = json.loads(manifest.read_text())
        assert isinstance(found, dict)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{manifest}: damaged, choose another --out") from error
    for name in sorted({*found, *described}):
        if found.get(name) != described.get(name):
            raise ValueError(
                f"{manifest}: the samples there are not the same draws: their {name} is "
                f"{found.get(name)}, not {described.get(name)}; choose another --out"
            )


def _missing(folder: Path, numbers: range) -> list[range]:
    """The parts of `numbers` without a file. A file is there whole or not at all."""
    ranges: list[range] = []
    for number in numbers:
        if _file(folder, number).exists():
            continue
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            ranges.append(range(number, number + 1))
    return ranges


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.png"
