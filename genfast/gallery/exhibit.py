"""What an exhibit is, and what making it has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: The picture that an exhibit leaves in its folder.
PICTURE = "picture.png"


@dataclass(frozen=True)
class Finding:
    """What was measured, in sentences for the page; `passed` says whether the check held."""

    figure: str
    check: str
    passed: bool
    caption: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Exhibit:
    """One system. `make` trains it in the folder it is given, leaves PICTURE there, and reports."""

    key: str
    title: str
    source: str
    make: Callable[[Path], Finding]
