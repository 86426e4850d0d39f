"""The speed-ups of a result file as bars, losses drawn as plainly as wins."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from genfast.benchmarks.results import Row, speedups, title

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_WIN, _LOSS, _BOUND, _GOAL = "#2b7a78", "#d1495b", "#222222", "#e09f3e"


def require_matplotlib() -> Any:
    """The module matplotlib.figure; an ImportError that says how to get it."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "genfast[bench]"') from error
    return matplotlib.figure


def speedup_plot(result: Row, path: Path) -> None:
    """Draw every measured speed-up of `result` (see results.py) to `path` (.png, .svg, ...).

    A bar is genfast against one side; a black tick marks the speed-up that the bound allows over
    that side, an orange one the goal.
    """
    bars = [(row, side, ratio) for row in result["rows"] for side, ratio in speedups(row).items()]
    if not bars:
        raise ValueError("nothing to plot: the result has no rows")
    figure = require_matplotlib().Figure(figsize=(11, 1.4 + 0.2 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    labels, previous = [], None
    for y, (row, side, ratio) in enumerate(bars):
        if row is not previous:  # named once, with a line above
            axes.axhline(y - 0.5, color="lightgrey", linewidth=0.6, zorder=0)
        labels.append(f"{title(row)}: over {side}" if row is not previous else side)
        previous = row
        color = _WIN if ratio >= 1 else _LOSS
        axes.barh(y, ratio - 1, left=1, color=color, height=0.75)
        if row["bound"]:
            _tick(axes, y, row["baseline"][side] / row["bound"]["us"], _BOUND)
        if side in row["reach"]:
            _tick(axes, y, row["reach"][side], _GOAL)
        at_right_edge = axes.get_yaxis_transform()
        axes.text(1.01, y, f"{ratio:.2f}x", color=color, size=7, va="center", transform=at_right_edge)
    axes.set_yticks(range(len(bars)), labels, fontsize=7)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(left=min(0.5, 0.8 * min(ratio for _, _, ratio in bars)))
    axes.axvline(1, color="black", linewidth=0.8)
    low, high = axes.get_xlim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) > 10:  # too close to read: whole decades
        ticks = [tick for tick in ticks if math.log10(tick) % 1 == 0]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    # Of the figure, not of the axes, which are narrower than they where names are long.
    figure.supxlabel("times faster (red: slower); black tick: the bound, orange tick: the goal", size=9)
    env = result["env"]
    place = env.get("gpu") or env["cpu"]
    figure.suptitle(
        f"{place}, {env['threads']} threads, torch {env['torch']}, commit {env['commit']}, "
        f"{env['date']}\n{result['command']}",
        fontsize=8,
    )
    source = {"Source": digest(result)} if path.suffix == ".png" else None
    figure.savefig(path, dpi=110, metadata=source)


def digest(result: Row) -> str:
    """What a result file holds, in a few letters."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def is_of(path: Path, result: Row) -> bool:
    """Whether the picture `path` is there and was drawn from `result`."""
    return path.is_file() and digest(result).encode() in path.read_bytes()


def _tick(axes: Any, y: float, ratio: float, color: str) -> None:
    axes.plot([ratio, ratio], [y - 0.4, y + 0.4], color=color, linewidth=2)
