"""`genfast runs`: the training runs of a folder and what they came to."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genfast.training.summaries import Figures, RunSummary

_HEADS = (
    *("run", "model", "data", "levels", "steps", "epochs", "best", "last", "unit", "images/s"),
    *("state", "size", "when"),
)
_LEFT = {"run", "model", "data", "unit", "state"}  # words; numbers are set to the right


def run(folder: Path, sort: str, json: bool) -> int:
    from dataclasses import asdict
    from json import dumps

    from genfast.training.summaries import list_runs

    runs = list_runs(folder)
    if sort != "run":
        runs.sort(key=lambda summary: _key(summary, sort))
    if json:
        print(dumps([asdict(summary) for summary in runs], indent=2))
        return 0
    whole = [_cells(summary, summary.figures) for summary in runs if summary.figures]
    if whole:
        _print_table(whole)
    for summary in runs:
        if summary.figures is None:
            print(f"broken: {summary.run}: {summary.error}")
    if not runs:
        print(f"no runs in {folder}")
    return 0


def _key(summary: RunSummary, sort: str) -> Any:
    """Lowest figure first, or latest last; runs without a figure come at the end."""
    if sort == "when":
        return summary.when
    value = getattr(summary.figures, sort, None)
    return math.inf if value is None else value


def _cells(summary: RunSummary, figures: Figures) -> list[str]:
    rate = figures.images_per_second
    return [
        *(summary.run, figures.model, figures.data, str(figures.levels), str(figures.steps)),
        f"{figures.epochs:.1f}",
        *("-" if value is None else f"{value:.4f}" for value in (figures.best, figures.last)),
        figures.unit,
        "-" if rate is None else f"{rate:.0f}",
        figures.state,
        f"{summary.bytes / 1e6:.2f} MB",
        summary.when[:16].replace("T", " "),
    ]


def _print_table(rows: list[list[str]]) -> None:
    """Columns as wide as they need."""
    rows = [list(_HEADS), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            text.ljust(width) if head in _LEFT else text.rjust(width)
            for head, text, width in zip(_HEADS, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="searched at any depth (runs)"
    )
    parser.add_argument(
        "--sort", choices=("run", "best", "last", "when"), default="run", help="order (run)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
