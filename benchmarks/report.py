"""Write the tables of README.md and docs/benchmarks.md from benchmarks/results/*.json alone.

    python -m genfast.benchmarks.report [--check]

Run in the repository's root. With --check nothing is written and the exit status is 1 if a file
is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report, or check it; returns 1 if it is out of date, 2 if it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m genfast.benchmarks.report")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: .)")
    arguments = parser.parse_args(argv)
    try:
        wanted = pages(arguments.root)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in wanted.items() if not _holds(path, text)]
    for path in stale:
        if arguments.check:
            print(f"{path} is out of date: run python -m genfast.benchmarks.report")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
            print(f"wrote {path}")
    return 1 if stale and arguments.check else 0


def pages(root: Path) -> dict[Path, str]:
    """Every page of the report with the text that it should have."""
    paths = sorted((root / "benchmarks/results").glob("*.json"), key=lambda path: path.stem)
    # GPUs first; Python's sort keeps the order of names otherwise.
    results = sorted(map(read_json, paths), key=lambda result: "gpu" not in result["env"])
    if not results:
        raise ValueError(f"no results in {root / 'benchmarks/results'}: run `genfast bench --json`")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme} needs the lines {BEGIN} and {END}, once each, in that order")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    summary = "\n\n".join(readme_summary(result) for result in results)
    return {
        readme: f"{before}{BEGIN}\n{summary}\n{END}{after}",
        root / "docs/benchmarks.md": full_page(results),
    }


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


def full_page(results: Sequence[Row]) -> str:
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
    for result in results:
        parts += [f"## {_place(result)}", _caption(result), _full_table(result)]
        parts += _footnotes(result)
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
