"""What `genfast.swap` did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Replaced:
    """A module that became a twin.

    Attributes:
        name: of the module in the model, "" for the model itself.
        module: the class it had.
        twin: what computes it now.
        note: what the user should know, "" if nothing.
    """

    name: str
    module: str
    twin: str
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.module} -> {self.twin}{note}"


@dataclass(frozen=True)
class Left:
    """A module that stays as it was.

    Attributes:
        name: of the module in the model, "" for the model itself.
        module: its class.
        reason: why.
    """

    name: str
    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module}: {self.reason}"


@dataclass(frozen=True)
class SwapReport:
    """The modules of a model that `genfast.swap` replaced or looked at; torch's own are not named.

    Attributes:
        replaced: those that are twins now.
        left: those that no pattern fits, or that were recognised but left alone.
        already: names of those that were twins before.
    """

    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...]
    already: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"replaced {len(self.replaced)}, left alone {len(self.left)}"]
        if self.already:
            lines[0] += f", already swapped {len(self.already)}"
        for title, entries in (("replaced", self.replaced), ("left alone", self.left)):
            for text, names in _grouped(entries).items():
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                lines.append(f"  {title}: {names[0] or 'the model itself'}{more}: {text}")
        return "\n".join(lines)


def _grouped(entries: Iterable[Replaced | Left]) -> dict[str, list[str]]:
    """Names by what is said of them."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(str(entry), []).append(entry.name)
    return groups
