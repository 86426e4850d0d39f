"""Derive genfast/ops/conv_table.py from benchmark results on a GPU.

    python -m genfast.benchmarks.conv_rule benchmarks/results/h200.json [--check]

genfast's kernel is taken where it beats cuDNN on the cropped kernel in the forward pass and in
forward and backward together, each by at least MARGIN; a row that was refused or is missing leaves
its case to cuDNN. Run in the repository's root.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from genfast.benchmarks.cases import FORWARD, TRAINING
from genfast.benchmarks.results import Row, read_json

OWN, CUDNN = "own kernel", "cuDNN, cropped"  # sides of the rows on CUDA
MARGIN = 1.03
TABLE = Path("genfast/ops/conv_table.py")
UNMEASURED = "    # Not measured: cuDNN everywhere."

Key = tuple[str, str, int, int]


def table(results: Sequence[Row]) -> dict[Key, bool]:
    """(op, arithmetic, kernel size, input channels) -> whether genfast's kernel is to be taken."""
    ratios: dict[Key, dict[str, float]] = defaultdict(dict)
    for result in results:
        for row in result["rows"]:
            sides = row["baseline"]
            if "conv" in row and OWN in sides and CUDNN in sides:
                conv = row["conv"]
                key = (row["op"], conv["arithmetic"], conv["kernel"], conv["channels"])
                ratios[key][row["direction"]] = sides[CUDNN] / sides[OWN]
    return {
        key: all(found.get(direction, 0.0) >= MARGIN for direction in (FORWARD, TRAINING))
        for key, found in sorted(ratios.items())
    }


def page(measured: dict[Key, bool], before: str) -> str:
    """The text of the table's file, given the one it replaces."""
    head, _, _ = before.partition(" = {\n")
    lines = [f"    {key!r}: {own},".replace("'", '"') for key, own in measured.items()] or [UNMEASURED]
    return head + " = {\n" + "\n".join(lines) + "\n}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table, or with --check say whether it is what the results give (1: it is not)."""
    parser = argparse.ArgumentParser(prog="python -m genfast.benchmarks.conv_rule")
    parser.add_argument("results", nargs="+", type=Path, help="result files of a GPU")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: .)")
    arguments = parser.parse_args(argv)
    path = arguments.root / TABLE
    before = path.read_text(encoding="utf-8")
    wanted = page(table([read_json(result) for result in arguments.results]), before)
    if before == wanted:
        return 0
    if arguments.check:
        print(f"{path} is out of date: run python -m genfast.benchmarks.conv_rule")
        return 1
    path.write_text(wanted, encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
