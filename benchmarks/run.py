"""`genfast bench`: measure, print a table, write JSON, draw the speed-ups."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from genfast.benchmarks import (
    bench_autoregressive,
    bench_exemplar_cache,
    bench_gated,
    bench_gaussian_mixture,
    bench_logistic_mixture,
    bench_lstm_scan,
    bench_masked_conv,
    bench_pixel_sampler,
    bench_rejection,
    plot,
)
from genfast.benchmarks.cases import Case
from genfast.benchmarks.constants import read_constants
from genfast.benchmarks.environment import command, environment
from genfast.benchmarks.results import (
    Row,
    case_of,
    error_ratio,
    goals,
    microseconds,
    read_json,
    result_file,
    speedups,
    title,
    write_json,
)
from genfast.benchmarks.rows import COMPILED, LATER, Outcome, Settings, failed, run_case
from genfast.benchmarks.timing import steady_allocator

OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    **bench_gated.OPS,
    **bench_masked_conv.OPS,
    **bench_gaussian_mixture.OPS,
    **bench_logistic_mixture.OPS,
    **bench_pixel_sampler.OPS,
    **bench_rejection.OPS,
    **bench_autoregressive.OPS,
    **bench_exemplar_cache.OPS,
    **bench_lstm_scan.OPS,  # whose unrolled steps torch.compile takes minutes for
}

#: The exit status of a run that a broken GPU context or a case without an end has stopped: other cases
#: need another process, with --resume, which leaves that case out.
LOST = 3
_LOST_REASON = "stopped the run: "
_SECONDS_OF_A_CASE = 150.0  # on a GPU, compiling included

_COLUMNS = "{:<70} {:>9} {:>10} {:>10} {:>7} {:>9} {:>7} {:>10}  {}"
_HEADINGS = (
    *("op, case, direction", "eager us", "compile us", "genfast us"),
    *("x eager", "x compile", "% bound", "err/budget", "others, goals"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks named; returns 1 if any row was refused for a wrong result, or LOST."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parse(argv)
    constants = read_constants(arguments.constants) if arguments.constants else {}
    # On a GPU a sample takes microseconds and every second is lent.
    seconds = 0.3 if arguments.quick else 2.5 if arguments.device == "cpu" else 0.5
    min_rounds = 5 if arguments.quick else 9
    on_gpu = arguments.device == "cuda"
    settings = Settings(
        arguments.device,
        arguments.threads,
        seconds,
        min_rounds,
        most_seconds=6.0 if on_gpu else None,
        constants=constants,
        compile=not arguments.no_compile,
    )
    if on_gpu:
        torch.backends.cudnn.benchmark = True  # for all sides alike
    env = environment(device=settings.device, threads=settings.threads, steady_malloc=steady_allocator())
    if constants:
        env["constants"] = constants
    _print_environment(env)
    record = _Record(env, command(argv), arguments.json)
    if arguments.resume:
        record.read()
    done = record.done(settings)
    for case in _cases(arguments, settings):
        if case.key in done:
            continue
        with _watched(partial(record.give_up, case)) if on_gpu else nullcontext():
            outcome = _run(case, settings)
        for row in outcome.rows:
            print(table_line(row), flush=True)
        for row in outcome.refused:
            print(f"REFUSED {title(row)}: {row['reason']}", flush=True)
        if on_gpu and outcome.refused and _context_is_lost():
            record.give_up(case, "the GPU's context is lost, " + outcome.refused[-1]["reason"])
            return LOST
        record.put(case, outcome)
    record.write()
    if arguments.plot:
        plot.speedup_plot(record.file(), arguments.plot)
    return 1 if record.refused else 0


def _run(case: Case, settings: Settings) -> Outcome:
    """run_case; on a GPU a case that breaks does not take the others with it."""
    if settings.device == "cpu":
        return run_case(case, settings)
    try:
        return run_case(case, settings)
    except RuntimeError as error:
        return Outcome([], failed(case, f"{type(error).__name__}: {str(error).strip()[:300]}"))
    finally:
        gc.collect()  # some cases take most of the memory
        torch.cuda.empty_cache()


class _Record:
    """The rows of a run, written after each case: what is measured is kept, whatever comes."""

    def __init__(self, env: Row, command: str, path: Path | None) -> None:
        self.env, self.command, self.path = env, command, path
        self.rows: list[Row] = []
        self.refused: list[Row] = []

    def read(self) -> None:
        """Begins with what the file holds already."""
        if self.path is not None and self.path.is_file():
            before = read_json(self.path)
            self.rows, self.refused = before["rows"], before["refused"]

    def done(self, settings: Settings) -> set[tuple[Any, ...]]:
        """The cases that are not run again.

        Whole ones, with torch.compile unless it is to be left out; and those that stopped a run.
        """
        lost = {case_of(row) for row in self.refused if row["reason"].startswith(_LOST_REASON)}
        again = {case_of(row) for row in self.refused}
        if settings.compile:
            again |= {case_of(row) for row in self.rows if row["unavailable"].get(COMPILED) == LATER}
        return {case_of(row) for row in self.rows} - again | lost

    def put(self, case: Case, outcome: Outcome) -> None:
        self.rows = _replaced(self.rows, case, outcome.rows)
        self.refused = _replaced(self.refused, case, outcome.refused)
        self.write()

    def give_up(self, case: Case, why: str) -> None:
        """A case that stops the run. Rows of it that were measured before are kept."""
        print(f"{case.name} {_LOST_REASON}{why}", flush=True)
        self.refused = _replaced(self.refused, case, failed(case, _LOST_REASON + why))
        self.write()

    def file(self) -> Row:
        return result_file(self.env, self.rows, self.refused, self.command)

    def write(self) -> None:
        if self.path is not None:
            write_json(self.file(), self.path)


def _cases(arguments: argparse.Namespace, settings: Settings) -> Iterator[Case]:
    """Those that may come later after all others."""
    for later in (False, True):
        for op in arguments.ops or OPS:
            cases = OPS[op](settings.device, arguments.quick)
            yield from (case for case in cases if case.later == later)


def _replaced(rows: Sequence[Row], case: Case, by: Sequence[Row]) -> list[Row]:
    """`rows` with those of a case in the place of its old ones, or at the end."""
    places = [i for i, row in enumerate(rows) if case_of(row) == case.key]
    first = places[0] if places else len(rows)
    others = [[row for row in part if case_of(row) != case.key] for part in (rows[:first], rows[first:])]
    return [*others[0], *by, *others[1]]


@contextmanager
def _watched(give_up: Callable[[str], None]) -> Iterator[None]:
    """Ends the process if the body takes too long: a kernel that waits for ever cannot be stopped."""

    def end() -> None:
        give_up(f"no result within {_SECONDS_OF_A_CASE:.0f} s")
        os._exit(LOST)

    timer = threading.Timer(_SECONDS_OF_A_CASE, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _context_is_lost() -> bool:
    """Whether a kernel broke in such a way that every later call on the GPU fails."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def table_line(row: Row) -> str:
    """One row of the printed table; "-" where a side was not measured."""
    faster = speedups(row)
    others = [
        f"{side} {microseconds(us)} us ({faster[side]:.2f}x)"
        for side, us in row["baseline"].items()
        if side not in ("eager", COMPILED)
    ]
    remarks = others + [str(goal) for goal in goals(row)]
    return _COLUMNS.format(
        title(row),
        *(_time(row["baseline"].get(side)) for side in ("eager", COMPILED)),
        _time(row["median_us"]),
        *(_number(faster.get(side), ".2f") for side in ("eager", COMPILED)),
        _number(row["bound"] and row["bound"]["pct"], ".3g"),
        _number(error_ratio(row), ".2f"),
        "; ".join(remarks),
    ).rstrip()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="genfast bench",
        description="Time genfast against eager PyTorch and torch.compile on this machine. "
        "A result that is not right is refused before it is timed.",
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"one of {', '.join(OPS)}; all")
    parser.add_argument("--quick", action="store_true", help="fewer cases, under a minute")
    parser.add_argument("--json", type=Path, metavar="F", help="write the results to F")
    parser.add_argument("--resume", action="store_true", help="keep the rows that F has already")
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="without torch.compile, whose compiling takes the most time; --resume adds it later",
    )
    parser.add_argument(
        "--constants", type=Path, metavar="C", help="constants of the GPU, for the bounds"
    )
    parser.add_argument("--plot", type=Path, metavar="F", help="draw the speed-ups to F")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), metavar="N", help="%(default)s"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="%(default)s")
    arguments = parser.parse_args(argv)
    for op in arguments.ops:
        if op not in OPS:
            parser.error(f"unknown op {op!r}; there are {', '.join(OPS)}")
    if arguments.resume and not arguments.json:
        parser.error("--resume needs --json F, the file to go on with")
    if arguments.constants and not arguments.constants.is_file():
        parser.error(f"--constants: there is no file {arguments.constants}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, got {arguments.threads}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this torch finds no CUDA device; see `genfast info`")
    # What would fail after minutes of measuring had better fail now.
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            parser.error(f"{option}: cannot write into the folder {path.parent}")
    if arguments.plot:
        try:
            plot.require_matplotlib()
        except ImportError as error:
            parser.error(f"--plot: {error}")
    return arguments


def _print_environment(env: Row) -> None:
    place = env.get("gpu") or f"{env['cpu']} ({env['isa']})"
    print(
        f"{place}, {env['threads']} threads, torch {env['torch']}, genfast {env['genfast']}, "
        f"commit {env['commit']}"
    )
    busy = env["load_average"]
    if busy is not None and busy > 0.5:
        print(f"note: other programs are running (load {busy}); these times will be unsteady")
    print(_COLUMNS.format(*_HEADINGS))


def _time(value: float | None) -> str:
    return "-" if value is None else microseconds(value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
