"""Ctrl-C and SIGTERM between training steps, never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupts:
    """While entered, SIGINT and SIGTERM raise `KeyboardInterrupt`, but not inside `shield()`.

    A step that is broken off leaves some weights updated and some not; shielded, it ends first.
    Outside the main thread, where Python delivers no signals, nothing is changed.

    >>> with Interrupts() as interrupts, interrupts.shield():
    ...     pass  # a step: a signal that comes here is raised at the end of this block
    """

    def __init__(self) -> None:
        self._shielded = False
        self._pending = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._shielded:
            self._pending = True
        else:
            raise KeyboardInterrupt

    def take(self) -> bool:
        """Whether an interrupt was held back; it is then the caller's to act on."""
        pending, self._pending = self._pending, False
        return pending

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Hold back an interrupt until the block has ended."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
            if self.take():
                raise KeyboardInterrupt
