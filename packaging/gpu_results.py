"""What a run of `make gpu` leaves behind: one result file of many, and all of it in three files."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from stages import SUMMARY


def merge(parts: list[dict[str, Any]], root: Path) -> dict[str, Any]:
    """One result file of those of single ops; the commit is this checkout's."""
    whole = {**parts[0], "command": "genfast bench --device cuda"}
    for key in ("rows", "refused"):
        whole[key] = [row for part in parts for row in part[key]]
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    if shutil.which("git") and (root / ".git").exists():
        commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip() or None
        whole["env"] = {**whole["env"], "commit": commit}
    return whole


def pack(folder: Path, summary: dict[str, Any], root: Path, work: Path) -> None:
    """summary.json, the result file and gpu.tar.gz: what a run leaves, in three files."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = summary["stages"]["benchmarks"].get("facts", {}).get("file")
    results = [root / measured] if measured and (root / measured).is_file() else []
    for path in (work / SUMMARY, *results):
        shutil.copyfile(path, folder / path.name)
    kept = [*work.glob("*.log"), *work.glob("*.json"), *work.glob("bench/*/*.json"), *results]
    with tarfile.open(folder / "gpu.tar.gz", "w:gz") as archive:
        for path in sorted(kept):
            archive.add(path, path.relative_to(root))
