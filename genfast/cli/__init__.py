"""The command `genfast`: info, bench, train, sample, eval, latent, directions, runs and demo.

A mistake of the user ends as one line on standard error and exit code 2; set GENFAST_DEBUG=1 to
see where it was raised. What a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from genfast.cli import demo, directions, evaluate, latent, runs, sample, train
from genfast.cli.exit_codes import INTERRUPTED, MISTAKE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command -> its exit code: 0 done, 1 `sample --compare` found a difference, 2 a
    mistake of the user, 130 interrupted.

    >>> main(["eval", "no/such/run"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # These two read their own flags.
        if arguments[:1] == ["info"]:
            from genfast.info import main as info

            return info(arguments[1:]) or 0
        if arguments[:1] == ["bench"]:
            from genfast.benchmarks.run import main as bench

            return bench(arguments[1:]) or 0
        parsed = vars(_parser(arguments).parse_args(arguments))
        command: Callable[..., int] = parsed.pop("command")
        return command(**parsed)
    except KeyboardInterrupt:
        print("genfast: interrupted", file=sys.stderr)
        return INTERRUPTED
    # All checks of genfast raise ValueError; OSError is the disk, ImportError a missing extra.
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("GENFAST_DEBUG"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print("genfast: error:", " ".join(message.split()), file=sys.stderr)
        return MISTAKE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, instead of the whole usage and then a line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(prog="genfast", description="Fast, exact deep generative models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("info", help="show versions, instruction sets and devices", add_help=False)
    commands.add_parser("bench", help="time the operations against PyTorch", add_help=False)
    of_train = arguments[1:] if arguments[:1] == ["train"] else []
    train.add_flags(commands.add_parser("train", help="train a model"), of_train)
    sample.add_flags(commands.add_parser("sample", help="draw images from a trained model"))
    evaluate.add_flags(commands.add_parser("eval", help="measure the likelihood of held-out images"))
    latent.add_flags(
        commands.add_parser("latent", help="look at a model's codes: neighbours, pictures, cache")
    )
    directions.add_flags(
        commands.add_parser("directions", help="find interpretable directions of a trained generator")
    )
    runs.add_flags(commands.add_parser("runs", help="list training runs with their figures"))
    demo.add_flags(commands.add_parser("demo", help="train, sample and benchmark: leaves a report page"))
    return parser
