"""Result files, and what their rows say: speed-ups, and whether the goal was reached.

A file is {"schema": 1, "env": {...}, "command": ..., "rows": [...], "refused": [...]}; `rows` holds
only results that passed the gate.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA = 1

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What a row set out to reach, and what was measured.

    A speed-up over a side ("x"), a time of the call itself ("us"), or a share of the bound ("%").
    """

    over: str
    wanted: float
    got: float
    unit: Literal["x", "us", "%"] = "x"

    @property
    def missed_by(self) -> float:
        """The shortfall as a share of the goal; 0 where it is reached."""
        if self.unit == "us":
            return max(0.0, self.got / self.wanted - 1)
        return max(0.0, 1 - self.got / self.wanted)

    def __str__(self) -> str:
        what = {
            "x": f"{self.got:.2f}x of {self.wanted:g}x {self.over}",
            "us": f"{microseconds(self.got)} us of at most {self.wanted:g} us",
            "%": f"{self.got:.1f} % of the bound, of {self.wanted:g} %",
        }[self.unit]
        missed = self.missed_by
        return f"{what}: missed by {100 * missed:.1f} %" if missed else f"{what}: reached"


def speedups(row: Row) -> dict[str, float]:
    """How many times faster than each side genfast was (below 1: slower), by medians."""
    return {name: us / row["median_us"] for name, us in row["baseline"].items()}


def goals(row: Row) -> list[Goal]:
    """The goals of a row; one whose side could not be measured is left out."""
    got = speedups(row)
    found = [Goal(side, want, got[side]) for side, want in row["reach"].items() if side in got]
    if row["reach_us"] is not None:
        found.append(Goal("", row["reach_us"], row["median_us"], "us"))
    if row.get("reach_bound") is not None and row["bound"]:  # older files have no such goals
        found.append(Goal("", row["reach_bound"], row["bound"]["pct"], "%"))
    return found


def error_ratio(row: Row) -> float:
    """Largest error over its budget; at most 1 in any row that is reported."""
    return float(row["max_err"] / row["err_budget"]) if row["max_err"] else 0.0


def case_of(row: Row) -> tuple[str, str, tuple[int, ...], str]:
    """What a row has in common with the other directions of its case (Case.key)."""
    return row["op"], row["variant"], tuple(row["shape"]), row["dtype"]


def setting(row: Row) -> str:
    """Variant, shape and dtype of a row: "NCHW, 16x256x28x28, float32"."""
    shape = "x".join(str(n) for n in row["shape"])
    return f"{row['variant']}, {shape}, {row['dtype']}"


def title(row: Row) -> str:
    """A row's op, setting and direction in one line."""
    return f"{row['op']} {setting(row)}, {row['direction']}"


def microseconds(value: float) -> str:
    """
    >>> microseconds(4.558), microseconds(24664.0)
    ('4.56', '24,664')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def result_file(
    env: Mapping[str, Any], rows: Sequence[Row], refused: Sequence[Row], command: str
) -> Row:
    """The whole file: schema, env, rows and what was refused."""
    return {
        "schema": SCHEMA,
        "env": dict(env),
        "command": command,
        "rows": list(rows),
        "refused": list(refused),
    }


def write_json(result: Row, path: Path) -> None:
    """Write atomically: a reader finds the old file or the new one, never half of one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1, allow_nan=False)
            file.write("\n")
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Row:
    """Read a result file; ValueError if it is not one, or holds a row that should be refused."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    found = result.get("schema") if isinstance(result, dict) else None
    if found != SCHEMA:
        raise ValueError(f"{path} has schema {found!r}; this version reads {SCHEMA}")
    for row in result["rows"]:
        if not row["max_err"] <= row["err_budget"]:
            raise ValueError(f"{path} holds a row over its error budget: {title(row)}")
    return dict(result)
