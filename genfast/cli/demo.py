"""`genfast demo`: trains, samples, measures, and leaves a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from genfast.cli.exit_codes import INTERRUPTED


def run(out: Path) -> int:
    from genfast.benchmarks.run import main as bench
    from genfast.training.demo import run_demo

    return 0 if run_demo(out, bench) else INTERRUPTED


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (demo)")
