"""The one error of the data floor, and the check that a data set fits this machine."""

from __future__ import annotations

import os
from pathlib import Path

#: No named data set is a tenth of this: what a damaged or hostile file may claim at most, in bytes.
LARGEST_NAMED_SET = 2**31

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class DataError(ValueError):
    """A data set is unknown, missing, corrupt or of the wrong form; the message names the file."""


def refuse_beyond(limit: int, where: object, needed: int) -> None:
    """Raise `DataError` if `needed` bytes are more than `limit`, before any of them is set aside.

    >>> refuse_beyond(2**31, "mnist.gz", 100 * 10**9)
    Traceback (most recent call last):
    ...
    genfast.data.errors.DataError: mnist.gz: would need 100.0 GB of memory, at most 2.1 GB are accepted
    """
    if needed > limit:
        raise DataError(
            f"{where}: would need {needed / 1e9:.1f} GB of memory, "
            f"at most {limit / 1e9:.1f} GB are accepted"
        )


def memory_limit() -> int:
    """Bytes that a user's own images may need: half of this machine's or container's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        allowed = _CONTAINER_LIMIT.read_text().strip()
    except OSError:
        allowed = ""
    return min(memory, int(allowed) if allowed.isdigit() else memory) // 2
