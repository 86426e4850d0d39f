"""Making exhibits one after the other, and the page that shows them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genfast.gallery.catalogue import EXHIBITS
from genfast.gallery.exhibit import PICTURE, Exhibit
from genfast.gallery.page import render
from genfast.training.files import write_atomically, write_json

_FINDING = "finding.json"


def make_gallery(
    out: str | Path, only: Sequence[str] = (), exhibits: Sequence[Exhibit] = EXHIBITS
) -> list[str]:
    """Make the exhibits (those whose keys are in `only`, if any are) in folder `out` -> failed checks.

    The page `out`/index.html is written anew after each exhibit and shows what is there, of this run
    and of earlier ones, so an interruption loses the exhibit at work only. Raises `ValueError` for a
    key that no exhibit has.
    """
    out = Path(out)
    keys = [exhibit.key for exhibit in exhibits]
    for key in only:
        if key not in keys:
            raise ValueError(f"only must name exhibits ({', '.join(keys)}), got {key!r}")
    failed = []
    for exhibit in exhibits:
        if only and exhibit.key not in only:
            continue
        folder = out / exhibit.key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FINDING).unlink(missing_ok=True)  # nothing old is shown beside new pictures
        start = time.monotonic()
        finding = exhibit.make(folder)
        seconds = time.monotonic() - start
        write_json(folder / _FINDING, {**finding.to_dict(), "seconds": seconds})
        if not finding.passed:
            failed.append(exhibit.key)
        verdict = "ok" if finding.passed else "FAILED"
        print(f"{verdict:6} {exhibit.title}: {finding.figure} [{seconds:.0f} s]")
        write_atomically(out / "index.html", render(_shown(out, exhibits)))
    return failed


def _shown(out: Path, exhibits: Sequence[Exhibit]) -> list[tuple[Exhibit, dict[str, Any]]]:
    """The exhibits that have been made, each with its finding."""
    shown = []
    for exhibit in exhibits:
        folder = out / exhibit.key
        if (folder / _FINDING).exists() and (folder / PICTURE).exists():
            shown.append((exhibit, json.loads((folder / _FINDING).read_text())))
    return shown
