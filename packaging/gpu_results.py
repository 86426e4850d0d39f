"""What a run of `make gpu` leaves behind: the result file to commit, and all of it in three files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from stages import SUMMARY


def to_be_committed(result: dict[str, Any], root: Path) -> dict[str, Any]:
    """A result file with the commit of this checkout and the command to repeat it by.

    Where the tree has come without its repository, GENFAST_COMMIT says the commit.
    """
    commit = os.environ.get("GENFAST_COMMIT")
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    if not commit and shutil.which("git") and (root / ".git").exists():
        commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip() or None
    env = {**result["env"], "commit": commit}
    return {**result, "env": env, "command": "genfast bench --device cuda"}


def pack(folder: Path, summary: dict[str, Any], root: Path, work: Path) -> None:
    """summary.json, the result file and gpu.tar.gz: what a run leaves, in three files."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = [stage.get("facts", {}) for stage in summary["stages"].values()]
    measured = next((found["file"] for found in facts if "file" in found), None)
    results = [root / measured] if measured and (root / measured).is_file() else []
    for path in (work / SUMMARY, *results):
        shutil.copyfile(path, folder / path.name)
    kept = [*work.glob("*.log"), *work.glob("*.json"), *work.glob("bench/*/*.json"), *results]
    with tarfile.open(folder / "gpu.tar.gz", "w:gz") as archive:
        for path in sorted(kept):
            archive.add(path, path.relative_to(root))
