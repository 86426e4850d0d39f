"""The constants of a GPU that predictions start from: recalled ones, and those that were measured.

`make gpu` measures them (benchmarks/cuda/constants.cu); they go into the env of a result file, for the
bounds of its rows, and from there into docs/cuda.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Name -> unit, and what is recalled or derived of an H200: 132 multiprocessors at 1.755 GHz.
RECALLED: dict[str, tuple[str, str]] = {
    "copy": ("TB/s, read and written", "4.8"),
    "memcpy": ("TB/s, read and written", "4.8"),
    "l2 read": ("TB/s", "5.5"),
    "mma bf16": ("TFLOP/s, mma.sync", "613, 62 % of the peak"),
    "mma fp16": ("TFLOP/s, mma.sync", "613"),
    "mma tf32": ("TFLOP/s, mma.sync", "306"),
    "wgmma bf16": ("TFLOP/s", "989"),
    "wgmma tf32": ("TFLOP/s", "494"),
    "fma": ("T/s", "33"),
    "exp2_fast": ("T/s", "3.7: 16 a clock and multiprocessor"),
    "exp_fast": ("T/s", "-"),
    "expf": ("T/s", "-"),
    "tanh_approx": ("T/s", "3.7"),
    "tanh_fast": ("T/s", "1.9: two special functions"),
    "tanhf": ("T/s", "-"),
    "sigmoid_fast": ("T/s", "1.9"),
    "block barrier, 128 threads": ("ns", "17: 30 clocks"),
    "block barrier, 256 threads": ("ns", "-"),
    "block barrier, 1024 threads": ("ns", "-"),
    "cluster barrier, 2 blocks": ("ns", "110 to 400"),
    "cluster barrier, 4 blocks": ("ns", "-"),
    "cluster barrier, 8 blocks": ("ns", "-"),
    "grid barrier, 256 threads": ("ns", "1,200 to 1,600"),
    "flag to another block": ("ns", "500 to 800"),
    "launch, host": ("us", "-"),
    "kernel period, stream": ("us", "-"),
    "kernel period, graph": ("us", "2 to 2.5"),
}


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


def table(results: Sequence[dict[str, Any]]) -> str:
    """Recalled values and, beside them, those measured on each GPU of the result files."""
    gpus = {r["env"]["gpu"]: r["env"].get("constants", {}) for r in results if "gpu" in r["env"]}
    columns = list(gpus) or ["measured"]
    lines = [
        f"| constant | unit | recalled for an H200 | {' | '.join(columns)} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name, (unit, recalled) in RECALLED.items():
        values = [measured.get(name) for measured in gpus.values()] or [None]
        shown = ["not measured" if value is None else f"{value:.4g}" for value in values]
        lines.append(f"| {' | '.join([name, unit, recalled, *shown])} |")
    return "\n".join(lines)


def what_ran(results: Sequence[dict[str, Any]]) -> str:
    """Whether CUDA code has been measured on a GPU, in a sentence."""
    said = []
    for result in results:
        env = result["env"]
        if "gpu" in env:
            rows, refused = len(result["rows"]), len(result["refused"])
            said.append(
                f"{env['gpu']} (driver {env['driver']}, CUDA {env['cuda']}, torch {env['torch']}, "
                f"commit {env['commit']}, {env['date']}): {rows} rows, {refused} refused"
            )
    if not said:
        return "**The CUDA code has never run on a GPU: nothing was measured on one.**"
    return f"Measured on {'; '.join(said)}."
