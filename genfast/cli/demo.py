"""`genfast demo`: trains, samples, measures, and leaves a page; with --all, the gallery as well."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from genfast.cli.exit_codes import DISAGREE, INTERRUPTED


def run(out: Path, all: bool, only: Sequence[str]) -> int:
    from genfast.benchmarks.run import main as bench
    from genfast.training.demo import run_demo

    if not only and not run_demo(out, bench):
        return INTERRUPTED
    return _gallery(out / "gallery", only) if all or only else 0


def _gallery(out: Path, only: Sequence[str]) -> int:
    from genfast.gallery import make_gallery

    failed = make_gallery(out, only)
    print(f"gallery: {out / 'index.html'}")
    if failed:
        print(f"genfast: checks that do not hold: {', '.join(failed)}", file=sys.stderr)
    return DISAGREE if failed else 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (demo)")
    parser.add_argument(
        "--all", action="store_true", help="then the gallery: all systems, each with picture and check"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="KEY", help="only these exhibits of the gallery"
    )
