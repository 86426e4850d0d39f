"""Write the tables of README.md and docs/, and the plots, from benchmarks/results/*.json alone.

    python -m genfast.benchmarks.report [--check]

Run in the repository's root. With --check nothing is written and the exit status is 1 if a file
is out of date. A plot says which result file it was drawn from, so that checking draws none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from genfast.benchmarks import constants, plot
from genfast.benchmarks.results import (
    Row,
    error_ratio,
    goals,
    microseconds,
    read_json,
    setting,
    speedups,
    title,
)
from genfast.benchmarks.rows import COMPILED

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
# On any page: whether a GPU was measured; in docs/cuda.md: its constants.
GPU, CONSTANTS = ((f"<!-- {name}:begin -->", f"<!-- {name}:end -->") for name in ("gpu", "constants"))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report, or check it; returns 1 if it is out of date, 2 if it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m genfast.benchmarks.report")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: .)")
    arguments = parser.parse_args(argv)
    try:
        results = read_results(arguments.root)
        wanted = pages(arguments.root, results)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in wanted.items() if not _holds(path, text)]
    drawn = plots(arguments.root, results)
    stale += [path for path, result in drawn.items() if not plot.is_of(path, result)]
    for path in stale:
        if arguments.check:
            print(f"{path} is out of date: run python -m genfast.benchmarks.report")
            continue
        path.parent.mkdir(exist_ok=True)
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            plot.speedup_plot(drawn[path], path)
        print(f"wrote {path}")
    return 1 if stale and arguments.check else 0


def read_results(root: Path) -> dict[str, Row]:
    """All result files by their names: GPUs first, otherwise in the order of names."""
    paths = sorted((root / "benchmarks/results").glob("*.json"), key=lambda path: path.stem)
    results = {path.stem: read_json(path) for path in paths}
    if not results:
        raise ValueError(f"no results in {root / 'benchmarks/results'}: run `genfast bench --json`")
    return dict(sorted(results.items(), key=lambda item: not on_gpu(item[1])))


def on_gpu(result: Row) -> bool:
    return "gpu" in result["env"]


def pages(root: Path, results: Mapping[str, Row]) -> dict[Path, str]:
    """Every page of the report with the text that it should have."""
    readme = root / "README.md"
    summaries = [readme_summary(result) for result in results.values()]
    status = constants.what_ran([*results.values()])
    if not any(map(on_gpu, results.values())):
        summaries.append(status)
    wanted = {readme: _filled(readme, readme.read_text(encoding="utf-8"), (BEGIN, END), summaries)}
    for page in sorted((root / "docs").glob("*.md")):
        wanted[page] = page.read_text(encoding="utf-8")
        if CONSTANTS[0] in wanted[page]:
            measured = constants.table([*results.values()])
            wanted[page] = _filled(page, wanted[page], CONSTANTS, [measured])
    for page, text in wanted.items():
        if GPU[0] in text:
            wanted[page] = _filled(page, text, GPU, [status])
    wanted[root / "docs/benchmarks.md"] = full_page(results)
    return wanted


def plots(root: Path, results: Mapping[str, Row]) -> dict[Path, Row]:
    """The plots, and what each is drawn from: the rows that the README counts."""
    return {
        root / _plot_of(name): {**result, "rows": [row for row in result["rows"] if row["headline"]]}
        for name, result in results.items()
        if any(row["headline"] for row in result["rows"])
    }


def _plot_of(name: str) -> str:
    return f"docs/benchmarks-{name}.png"


def _filled(page: Path, text: str, marks: tuple[str, str], parts: Sequence[str]) -> str:
    """`text` with `parts` as paragraphs between the marks."""
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page} needs the lines {begin} and {end}, once each, in that order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return "\n".join([before + begin, "\n\n".join(parts), end + after])


def readme_summary(result: Row) -> str:
    """A line an op and direction: the range over its headline rows, the worst miss; then every loss."""
    lines = [
        _caption(result),
        "",
        "| op | direction | cases | faster than eager | than torch.compile | of the bound "
        "| goals reached | furthest from a goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in result["rows"]:
        if row["headline"]:
            groups.setdefault((row["op"], row["direction"]), []).append(row)
    ops = [op for op, _ in groups]
    for op, direction in sorted(groups, key=lambda group: (ops.index(group[0]), group[1])):
        lines.append(_line([op, direction, *_summary(groups[op, direction])]))
    if losses := [f"{title(row)}: {faster}" for row in result["rows"] if (faster := _losses(row))]:
        lines += ["", f"Slower than another side: {'; '.join(losses)}."]
    return "\n".join(lines)


def _summary(rows: Sequence[Row]) -> list[str]:
    faster = [speedups(row) for row in rows]
    wanted = [goal for row in rows for goal in goals(row)]
    missed = [goal for goal in wanted if goal.missed_by]
    return [
        str(len(rows)),
        *(_range([f[side] for f in faster if side in f], "x") for side in ("eager", COMPILED)),
        _range([row["bound"]["pct"] for row in rows if row["bound"]], " %"),
        f"{len(wanted) - len(missed)} of {len(wanted)}" if wanted else "-",
        str(max(missed, key=lambda goal: goal.missed_by)) if missed else "-",
    ]


def _losses(row: Row) -> str:
    slower = {side: ratio for side, ratio in speedups(row).items() if round(ratio, 2) < 1}
    return ", ".join(f"{ratio:.2f}x {side}" for side, ratio in slower.items())


def _range(values: Sequence[float], unit: str) -> str:
    """
    >>> _range([1.3, 614.2], "x"), _range([86.0], " %")
    ('1.30x to 614x', '86.0 %')
    """
    if not values:
        return "-"
    ends = dict.fromkeys(
        f"{end:.0f}{unit}" if end >= 100 else f"{end:#.3g}{unit}" for end in (min(values), max(values))
    )
    return " to ".join(ends)


def full_page(results: Mapping[str, Row]) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        "Generated from `benchmarks/results/*.json` by `python -m genfast.benchmarks.report`; "
        "do not edit.",
        "Sides are timed in turn (A B A B ...) on rotating buffers; times are medians. A row "
        "counts only if its largest error against an fp64 reference is at most twice that of eager "
        "PyTorch (and a few roundings). Only ratios carry over to other machines. A ratio below 1 is "
        "a loss.",
    ]
    for name, result in results.items():
        parts += [f"## {_place(result)}", _caption(result), _full_table(result), *_footnotes(result)]
        if any(row["headline"] for row in result["rows"]):
            parts.append(f"![times faster than the other sides]({Path(_plot_of(name)).name})")
    return "\n\n".join(parts) + "\n"


def _full_table(result: Row) -> str:
    lines = [
        "| op | case | direction | eager us | compile us | genfast us (p20 - p80, min) "
        "| x eager | x compile | other sides | of the bound | err / budget | goal |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        faster = speedups(row)
        others = [
            f"{side}: {_time(us)} us, {faster[side]:.2f}x"
            for side, us in row["baseline"].items()
            if side not in ("eager", COMPILED)
        ]
        spread = f"{_time(row['p20_us'])} - {_time(row['p80_us'])}, {_time(row['min_us'])}"
        cells = [
            *_name(row),
            *(_time(row["baseline"].get(side)) for side in ("eager", COMPILED)),
            f"{_time(row['median_us'])} ({spread})",
            *_ratios(row),
            "; ".join(others),
            _bound(row),
            f"{error_ratio(row):.2f}",
            _goals(row),
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _footnotes(result: Row) -> list[str]:
    bounds = dict.fromkeys(
        f"{row['op']}: {row['bound']['text']}" for row in result["rows"] if row["bound"]
    )
    notes = [f"Bounds: {'; '.join(bounds)}."] if bounds else []
    missing = dict.fromkeys(
        f"{row['op']} {row['variant']}, {side}: {why}"
        for row in result["rows"]
        for side, why in row["unavailable"].items()
    )
    notes += [f"Not measured: {'; '.join(missing)}."] if missing else []
    saved = [
        f"{title(row)}: " + ", ".join(f"{side} {n / 1e6:.1f}" for side, n in row["saved_bytes"].items())
        for row in result["rows"]
        if "saved_bytes" in row
    ]
    notes += [f"Kept from forward to backward, MB: {'; '.join(saved)}."] if saved else []
    refused = [f"{title(row)}: {row['reason']}" for row in result["refused"]]
    return notes + ([f"Refused: {'; '.join(refused)}."] if refused else [])


def _place(result: Row) -> str:
    env = result["env"]
    return str(env.get("gpu") or f"{env['cpu']}, {env['isa']}, {env['threads']} threads")


def _caption(result: Row) -> str:
    env = result["env"]
    versions = [f"torch {env['torch']}", f"genfast {env['genfast']}", f"commit {env['commit']}"]
    if "driver" in env:
        versions += [f"CUDA {env['cuda']}", f"driver {env['driver']}"]
    return f"{_place(result)}; {', '.join(versions)}; {env['date']}; `{result['command']}`"


def _name(row: Row) -> list[str]:
    return [row["op"], setting(row), row["direction"]]


def _ratios(row: Row) -> list[str]:
    faster = speedups(row)
    return [_number(faster.get(side), ".2f", "x") for side in ("eager", COMPILED)]


def _bound(row: Row) -> str:
    return f"{row['bound']['pct']:.3g} %" if row["bound"] else "-"


def _goals(row: Row) -> str:
    return "; ".join(map(str, goals(row))) or "-"


def _time(value: float | None) -> str:
    return "-" if value is None else microseconds(value)


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
