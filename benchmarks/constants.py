"""The measured constants of a GPU: what `make gpu` leaves of benchmarks/cuda/constants.cu."""

from __future__ import annotations

import json
from pathlib import Path


def read_constants(path: Path) -> dict[str, float]:
    """Name -> value, from the program's lines; a line that was cut off is left out.

    Units are the program's: TB/s, TFLOP/s, T/s, ns, us.
    """
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "constant" in entry:
            found[entry["constant"]] = float(entry["value"])
    return found
