"""Charts as PNG files, by matplotlib without a screen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genfast.data.extras import require
from genfast.training.files import write_atomically


@contextmanager
def chart(path: Path, columns: int = 1, size: tuple[float, float] = (5.5, 4.0)) -> Iterator[Any]:
    """Axes to draw on (a list of them if `columns` > 1), saved to `path` when the block ends well."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    yield axes if columns > 1 else axes[0]
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=140)
    write_atomically(path, encoded.getvalue())
