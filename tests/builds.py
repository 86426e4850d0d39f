"""Programs that tests build and run."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Waits until no other process builds in `folder`: several pytest processes may ask for the same."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "building.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def under_thread_sanitizer(command: Sequence[str | Path]) -> list[str | Path]:
    """`command`, run as older ThreadSanitizers need it: they cannot start where addresses are random."""
    steady = subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0
    return [*(["setarch", "-R"] if steady else []), *command]
