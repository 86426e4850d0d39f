"""`genfast bench`: measure, print a table, write JSON, draw the speed-ups."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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
from genfast.benchmarks.rows import COMPILED, Outcome, Settings, failed, run_case
from genfast.benchmarks.timing import steady_allocator

OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    **bench_gated.OPS,
    **bench_masked_conv.OPS,
    **bench_gaussian_mixture.OPS,
    **bench_logistic_mixture.OPS,
    **bench_lstm_scan.OPS,
    **bench_autoregressive.OPS,
    **bench_pixel_sampler.OPS,
    **bench_rejection.OPS,
    **bench_exemplar_cache.OPS,
}

_COLUMNS = "{:<70} {:>9} {:>10} {:>10} {:>7} {:>9} {:>7} {:>10}  {}"
_HEADINGS = (
    *("op, case, direction", "eager us", "compile us", "genfast us"),
    *("x eager", "x compile", "% bound", "err/budget", "others, goals"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks named; returns 1 if any row was refused for a wrong result."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parse(argv)
    constants = read_constants(arguments.constants) if arguments.constants else {}
    # On a GPU a sample takes microseconds and every second is lent.
    seconds = 0.3 if arguments.quick else 2.5 if arguments.device == "cpu" else 0.5
    min_rounds = 5 if arguments.quick else 9
    settings = Settings(arguments.device, arguments.threads, seconds, min_rounds, constants)
    env = environment(device=settings.device, threads=settings.threads, steady_malloc=steady_allocator())
    if constants:
        env["constants"] = constants
    _print_environment(env)
    rows: list[Row] = _rows_before(arguments)
    refused: list[Row] = []
    done = {case_of(row) for row in rows}
    for op in arguments.ops or OPS:
        for case in OPS[op](settings.device, arguments.quick):
            if case.key in done:
                continue
            outcome = _run(case, settings)
            for row in outcome.rows:
                print(table_line(row), flush=True)
            for row in outcome.refused:
                print(f"REFUSED {title(row)}: {row['reason']}", flush=True)
            rows += outcome.rows
            refused += outcome.refused
            if arguments.json:  # what is measured is kept, whatever comes
                write_json(result_file(env, rows, refused, command(argv)), arguments.json)
    result = result_file(env, rows, refused, command(argv))
    if arguments.json:
        write_json(result, arguments.json)
    if arguments.plot:
        plot.speedup_plot(result, arguments.plot)
    return 1 if refused else 0


def _run(case: Case, settings: Settings) -> Outcome:
    """run_case; on a GPU a case that breaks does not take the others with it."""
    if settings.device == "cpu":
        return run_case(case, settings)
    try:
        return run_case(case, settings)
    except RuntimeError as error:
        return Outcome([], failed(case, f"{type(error).__name__}: {str(error).strip()[:300]}"))


def _rows_before(arguments: argparse.Namespace) -> list[Row]:
    """With --resume, what the file of --json holds already."""
    if not (arguments.resume and arguments.json.is_file()):
        return []
    before = read_json(arguments.json)
    rows: list[Row] = before["rows"]
    # A case that lost one direction is run again as a whole.
    again = {case_of(row) for row in before["refused"]}
    return [row for row in rows if case_of(row) not in again]


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
