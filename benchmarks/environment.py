"""Where a benchmark ran: everything that its numbers depend on and nothing private."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genfast import _C


def environment(*, device: str, threads: int, steady_malloc: bool) -> dict[str, Any]:
    """The `env` of a result file.

    >>> env = environment(device="cpu", threads=1, steady_malloc=False)
    >>> env["device"], env["threads"]
    ('cpu', 1)
    """
    env: dict[str, Any] = {
        "device": device,
        "cpu": cpu_model(),
        "isa": _C.current_isa(),
        "threads": threads,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "steady_malloc": steady_malloc,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "genfast": _version(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if device == "cuda":
        env |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
            "clock_locked": None,
        }
    return env


def command(argv: Sequence[str]) -> str:
    """The command line to repeat a run; a path outside the current folder keeps its name only."""
    here = Path.cwd()
    words = ["genfast", "bench"]
    for word in argv:
        path = Path(os.path.abspath(word))
        looks_like_path = os.sep in word
        inside = path.is_relative_to(here)
        if looks_like_path:
            word = str(path.relative_to(here)) if inside else path.name
        words.append(word)
    return " ".join(words)


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that holds this file ("-dirty" if it differs), if it is one."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None  # installed: an enclosing repository would be somebody else's
    return _output(["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"])


def _version() -> str:
    try:
        return importlib.metadata.version("genfast")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _output(arguments: list[str]) -> str | None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
