"""The picture of a run: training and validation loss over its epochs."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from genfast.data.extras import require
from genfast.training.files import write_atomically


def save_curve(
    path: str | Path,
    rows: Sequence[Mapping[str, float]],
    unit: str,
    *,
    level: float | None = None,
    level_name: str = "independent pixels (test)",
) -> None:
    """Draw the rows of a history (see `History.rows`) as PNG; `level` is a line to compare with.

    >>> import tempfile
    >>> rows = [{"epoch": 1.0, "train_loss": 2.0, "validation_loss": math.nan},
    ...         {"epoch": 2.0, "train_loss": 1.5, "validation_loss": 1.6}]
    >>> save_curve(tempfile.mkdtemp() + "/curve.png", rows, "bits/dim", level=2.5)
    """
    figure = require("matplotlib.figure", "bench").Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([row["epoch"] for row in rows], [row["train_loss"] for row in rows], label="training")
    checked = [row for row in rows if not math.isnan(row["validation_loss"])]
    axes.plot(
        [row["epoch"] for row in checked],
        [row["validation_loss"] for row in checked],
        marker=".",
        label="validation",
    )
    if level is not None:
        axes.axhline(level, color="0.5", linestyle="--", label=level_name)
    axes.set(xlabel="epoch", ylabel=unit)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=140)
    write_atomically(path, encoded.getvalue())
