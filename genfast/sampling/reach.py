"""How far the values of a pixel program reach, and which of them have to be looked at together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from genfast.sampling.program import Compute, Draw, Phase, Tap

Reach = dict[int, float]  # whole numbers, or infinity


@dataclass
class Segment:
    """Channels of a buffer that were written together (by one instruction, or by one a parity)."""

    target: Tap
    name: str
    reach: Reach
    furthest: Segment | None  # the segment through which row 0 is reached furthest
    phase: Phase


def merge(into: Reach, other: Reach) -> None:
    for k, furthest in other.items():
        into[k] = max(into.get(k, furthest), furthest)


def groups(instructions: Sequence[Compute | Draw], states: Collection[int]) -> Iterator[tuple[int, int]]:
    """The instructions in runs: each alone, or all from a state's first reader to its last writer."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for n, i in enumerate(instructions):
        if isinstance(i, Compute):
            for tap in (*i.operands, i.target):
                first.setdefault(tap.buffer, n)
            last[i.target.buffer] = n
    start = 0
    while start < len(instructions):
        stop = start + 1
        n = start
        while n < stop:
            stop = max([stop, *(last[b] + 1 for b in states if first[b] == n)])
            n += 1
        yield start, stop
        start = stop
