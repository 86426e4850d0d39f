"""Time several ways of doing one thing, in turn.

A block of runs of A followed by a block of runs of B compares two moments of a machine more than
two programs, so the sides are called A B A B ... and judged by medians. Every call takes the next
of several buffers, so no side finds its inputs warm in the cache.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

Step = Callable[[], object]

_FEWEST_ROUNDS = 3
_FLUSH_BYTES = 256 << 20  # several times the L2 cache of any GPU at hand


@dataclass(frozen=True)
class Timing:
    """Microseconds a call: median, 20th and 80th percentile, minimum, over n samples."""

    median_us: float
    p20_us: float
    p80_us: float
    min_us: float
    n: int

    def times(self, factor: int) -> Timing:
        """Of `factor` calls, all as short as the best: what is not run gets the benefit of the doubt."""
        us = factor * self.min_us
        return Timing(us, us, us, us, self.n)


def interleave(
    sides: Mapping[str, Sequence[Step]],
    *,
    threads: int,
    seconds: float,
    min_rounds: int = 5,
    max_rounds: int = 300,
    most_seconds: float | None = None,
    warmup: int = 2,
    calls: int = 1,
    device: str = "cpu",
) -> dict[str, Timing]:
    """Time every side once a round, for about `seconds` and at least `min_rounds` rounds.

    Where rounds are so long that `most_seconds` pass before, three of them have to do.

    A side is a list of steps that do the same on different buffers; each call, of whichever side,
    takes the next one. A sample is the mean of `calls` calls in a row of one step (for calls too
    short for the clock). On CUDA the L2 cache is flushed before each sample and events do the
    timing, except for `calls` > 1: there the time that the host needs to issue a call is the
    question, and the clock does it.

    >>> x = torch.zeros(8)
    >>> timings = interleave(
    ...     {"exp": [x.exp], "sin": [x.sin]}, threads=1, seconds=0.01, max_rounds=5
    ... )
    >>> timings["exp"].n
    5
    """
    if not sides:
        raise ValueError("sides is empty: nothing to time")
    on_gpu = device != "cpu" and calls == 1
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device) if on_gpu else None
    samples: dict[str, list[float]] = {name: [] for name in sides}
    turn = 0
    with thread_count(threads), _no_garbage_collection():
        for steps in sides.values():
            for i in range(max(warmup, 1)):
                steps[i % len(steps)]()
        began = time.perf_counter()
        for done in range(max_rounds):
            passed = time.perf_counter() - began
            if done >= min_rounds and passed > seconds:
                break
            if done >= _FEWEST_ROUNDS and most_seconds is not None and passed > most_seconds:
                break
            for name, steps in sides.items():
                step = steps[turn % len(steps)]
                turn += 1
                sample = _clock(step, calls, device) if flush is None else _events(step, flush)
                samples[name].append(sample)
    return {name: summarise(values) for name, values in samples.items()}


def summarise(samples_us: Sequence[float]) -> Timing:
    """Order statistics of samples in microseconds."""
    p20, median, p80 = np.percentile(samples_us, [20, 50, 80])
    return Timing(float(median), float(p20), float(p80), min(samples_us), len(samples_us))


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Run the body with `torch.set_num_threads(threads)` and put the old count back."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def steady_allocator() -> bool:
    """Keep freed memory in the process, for all sides alike; False where malloc is not glibc's.

    Blocks of some megabytes otherwise go back to the kernel at every free, and faulting their
    pages in again costs more than many of the ops timed here.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    return bool(mallopt(m_mmap_max, 0)) and bool(mallopt(m_trim_threshold, 2**31 - 1))


def _clock(step: Step, calls: int, device: str) -> float:
    repeat = range(calls)
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in repeat:
        result = step()
    elapsed = time.perf_counter() - start
    del result  # freed off the clock
    return elapsed / calls * 1e6


def _events(step: Step, flush: torch.Tensor) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()
    start.record()
    result = step()
    stop.record()
    stop.synchronize()
    del result
    return float(start.elapsed_time(stop)) * 1e3


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
