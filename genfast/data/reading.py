"""Finding the files of a named data set, and reading them without trusting what they claim."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from genfast.data.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One way in which a data set comes: all the files `names` in any one of `folders`.

    A folder "." is `data_dir` itself. `packed` files may also end in .gz, and have a dot
    before "idx" in their names.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...]
    packed: bool = False

    def __str__(self) -> str:
        return ", ".join(self.names) + (" (each as it is or with .gz)" if self.packed else "")

    def path(self, folder: Path, name: str) -> Path | None:
        """The file `name` in `folder`, None if it is not there."""
        names = [name, name.replace("-idx", ".idx")] if self.packed else [name]
        names += [f"{name}.gz" for name in names] if self.packed else []
        return next((folder / name for name in names if (folder / name).exists()), None)


def locate(
    dataset: str, data_dir: Path | None, layouts: tuple[Layout, ...]
) -> tuple[Layout, list[Path]]:
    """The first layout whose files are all there, and their paths in the order of its names.

    Raises `DataError` saying which files may be where, or which are missing of those begun.
    """
    if data_dir is None:
        ways = "; or ".join(f"{layout}, in {' or '.join(layout.folders)}" for layout in layouts)
        raise DataError(
            f"{dataset} needs the files {ways} of a folder given by --data-dir or GENFAST_DATA"
        )
    incomplete = ""
    for layout in layouts:
        for folder in (data_dir / sub for sub in layout.folders):
            paths = [layout.path(folder, name) for name in layout.names]
            found = [path for path in paths if path is not None]
            if len(found) == len(paths):
                return layout, found
            if found and not incomplete:
                missing = [n for n, p in zip(layout.names, paths, strict=True) if p is None]
                incomplete = f"{folder}: {', '.join(missing)} not found; "
    ways = "; or ".join(
        f"{layout}, in one of {', '.join(str(data_dir / folder) for folder in layout.folders)}"
        for layout in layouts
    )
    ending = "" if incomplete else "; none is there"
    raise DataError(f"{incomplete}{dataset} needs the files {ways}{ending}")


def open_packed(path: Path) -> BinaryIO:
    """Open a file that may be gzipped. By content: browsers unpack .gz files without renaming them."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def read_at_most(file: BinaryIO, count: int) -> bytearray:
    """At most `count` bytes. In parts, as one read() would set aside whatever a header claims."""
    content = bytearray()
    while part := file.read(min(count - len(content), 1 << 20)):
        content += part
    return content
