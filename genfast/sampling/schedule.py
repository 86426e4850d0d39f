"""When each instruction of a pixel program runs, derived from what it reads; a proof of causality.

A pixel has S steps, its draws. The reach of a value is a table k -> R_k: of the row k above its own it
needs what is known after step R_k, counted in steps from the first one of its own column (so draw d of
the pixel c columns to the right is S c + d). A tap k' rows up and c columns to the right adds k' to
every k and S c to every R_k; the colours of draw d have the reach {0: d}, inputs an empty one. From its
reach follows when an instruction runs: without an entry for row 0 before its row; with R_0 < s before
draw s of its pixel, s as small as can be; else after the row, or after the draws of its pixel if a
pixel of the same row reads it. The parameters of draw d need R_0 < d, or the model is not causal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genfast.sampling.program import Buffer, Compute, Draw, Phase, Tap

Reach = dict[int, int]


@dataclass
class Segment:
    """Channels of a buffer that were written together (by one instruction, or by one a parity)."""

    target: Tap
    name: str
    reach: Reach
    furthest: Segment | None  # the segment through which row 0 is reached furthest
    phase: Phase


class Schedule:
    """Analyses instructions, in the order in which they were written.

    Raises:
        ValueError: the model is not causal, or a pixel would need a value that is not there yet; the
            message names the instructions.
    """

    def __init__(self, buffers: Sequence[Buffer], instructions: Sequence[Compute | Draw]) -> None:
        self.buffers = list(buffers)
        self.steps = sum(isinstance(i, Draw) for i in instructions)
        self.reaches: list[Reach] = []
        self._segments: list[list[Segment]] = [[] for _ in buffers]
        for draw in instructions:
            if isinstance(draw, Draw):
                self._image_segment(draw)
        placed = [self._place(i) for i in instructions]
        self.instructions = self._checked(placed)

    def _image_segment(self, draw: Draw) -> None:
        image = next(i for i, b in enumerate(self.buffers) if b.source == "image")
        target = Tap(image, draw.first_colour, draw.colours)
        name = f"the image's colour {draw.first_colour}" if draw.colours == 1 else "the image"
        self._segments[image].append(Segment(target, name, {0: draw.step}, None, Phase.PIXEL))

    # ---- reach and phase ----

    def _place(self, instruction: Compute | Draw) -> Compute | Draw:
        """The instruction with its phase; POST is told from END later."""
        if isinstance(instruction, Draw):
            self._check_causal(instruction)
            return instruction
        reach, furthest = self._reach(instruction.operands, instruction)
        last = reach.get(0)
        if last is None:
            phase, step = Phase.ROW, 0
        elif last < self.steps - 1:
            phase, step = Phase.PIXEL, max(0, last + 1)
        else:
            phase, step = Phase.END, 0
        self._write(instruction, Segment(instruction.target, instruction.name, reach, furthest, phase))
        return replace(instruction, phase=phase, step=step)

    def _write(self, instruction: Compute, new: Segment) -> None:
        segments = self._segments[instruction.target.buffer]
        for old in segments:
            if old.target == new.target and instruction.parity is not None:
                _merge(old.reach, new.reach)
                if old.reach.get(0) == new.reach.get(0):
                    old.furthest = new.furthest
                old.phase = max(old.phase, new.phase)
                return
        segments.append(new)

    def _reach(self, taps: Sequence[Tap], reader: Compute | None) -> tuple[Reach, Segment | None]:
        reach: Reach = {}
        furthest: Segment | None = None
        for tap in taps:
            rows, columns = self._offset(tap, reader)
            for segment in self._read(tap):
                before = reach.get(0)
                _merge(reach, {k - rows: r + self.steps * columns for k, r in segment.reach.items()})
                if reach.get(0) != before:
                    furthest = segment
        return reach, furthest

    def _read(self, tap: Tap) -> list[Segment]:
        segments = self._segments[tap.buffer]
        return [s for s in segments if s.target.start < tap.stop and tap.start < s.target.stop]

    def _offset(self, tap: Tap, reader: Compute | None) -> tuple[int, int]:
        """How far away a tap reads, in rows and columns of the image."""
        level = self.buffers[tap.buffer].level
        rows, columns = tap.row << level, tap.column << level
        if reader is not None and reader.parity is not None:
            own = self.buffers[reader.target.buffer].level
            if level > own:
                rows, columns = rows - (reader.parity[0] << own), columns - (reader.parity[1] << own)
        return rows, columns

    def _check_causal(self, draw: Draw) -> None:
        reach, segment = self._reach([draw.parameters], None)
        self.reaches.append(reach)
        last = reach.get(0)
        if last is None or last < draw.step:
            return
        path = []
        while segment is not None:
            path.append(segment.name)
            segment = segment.furthest
        column, step = divmod(last, self.steps)
        raise ValueError(
            f"not causal: {draw.name} needs draw {step} of the pixel {column} columns to the right, "
            f"by way of {' <- '.join(path)}"
        )

    def _checked(self, placed: list[Compute | Draw]) -> list[Compute | Draw]:
        """Backwards, so that readers are final: what pixels read must be there by then."""
        for n in reversed(range(len(placed))):
            reader = placed[n]
            if isinstance(reader, Draw):
                self._check_operand(reader.parameters, reader)
                continue
            if reader.phase == Phase.END and any(
                s.phase == Phase.POST for s in self._read(reader.target)
            ):
                reader = placed[n] = replace(reader, phase=Phase.POST)
            if reader.phase in (Phase.PIXEL, Phase.POST):
                for tap in reader.operands:
                    self._check_operand(tap, reader)
        return placed

    def _check_operand(self, tap: Tap, reader: Compute | Draw) -> None:
        rows, columns = self._offset(tap, reader if isinstance(reader, Compute) else None)
        if rows != 0:
            return
        for segment in self._read(tap):
            if segment.phase == Phase.ROW:
                continue
            if columns > 0:
                raise ValueError(
                    f"{reader.name} reads {segment.name} {columns} columns to the right, "
                    f"where it is not computed yet: shift the value itself instead"
                )
            if segment.phase == Phase.END:
                if segment.reach[0] > self.steps - 1:
                    raise ValueError(
                        f"{reader.name} reads {segment.name}, which looks to the right on its own row: "
                        f"pixels of that row cannot read it"
                    )
                segment.phase = Phase.POST

    # ---- splitting ----

    def split(self) -> None:
        """Moves what a pixel's product takes from finished rows into a product for the whole row."""
        instructions: list[Compute | Draw] = []
        for instruction in self.instructions:
            if isinstance(instruction, Compute) and instruction.phase in (Phase.PIXEL, Phase.POST):
                instructions += self._split(instruction)
            else:
                instructions.append(instruction)
        self.instructions = instructions

    def _split(self, whole: Compute) -> list[Compute]:
        def known(tap: Tap) -> bool:
            return 0 not in self._reach([tap], whole)[0]

        if whole.weight is None or not any(known(t) for t in whole.taps):
            return [whole]
        early: list[tuple[Tap, Tensor]] = []
        late: list[tuple[Tap, Tensor]] = []
        weights = whole.weight.split([t.channels for t in whole.taps], 1)
        for tap, weight in zip(whole.taps, weights, strict=True):
            (early if known(tap) else late).append((tap, weight))
        name = f"{whole.name} (row)"
        level = self.buffers[whole.target.buffer].level
        self.buffers.append(Buffer(name, whole.outputs, level))
        part = Tap(len(self.buffers) - 1, 0, whole.outputs)
        row = replace(
            whole,
            name=name,
            target=part,
            taps=tuple(t for t, _ in early),
            weight=torch.cat([w for _, w in early], 1),
            before=tuple(t for t in whole.before if known(t)),
            after=(),
            function="identity",
            phase=Phase.ROW,
            step=0,
        )
        rest = replace(
            whole,
            taps=tuple(t for t, _ in late),
            weight=torch.cat([w for _, w in late], 1) if late else None,
            bias=None,
            before=(part, *(t for t in whole.before if not known(t))),
        )
        return [row, rest]

    # ---- what follows ----

    def ordered(self) -> tuple[Compute | Draw, ...]:
        """By phase; inside a pixel by step, each step ending in its draw."""

        def key(entry: tuple[int, Compute | Draw]) -> tuple[int, int, bool, int]:
            place, instruction = entry
            return instruction.phase, instruction.step, isinstance(instruction, Draw), place

        return tuple(i for _, i in sorted(enumerate(self.instructions), key=key))

    def measured(self) -> tuple[Buffer, ...]:
        """The buffers with how far back and beyond the edges they are read."""
        depth, left, right = ([n] * len(self.buffers) for n in (1, 0, 0))
        for instruction in self.instructions:
            taps = instruction.operands if isinstance(instruction, Compute) else ()
            for tap in taps:
                depth[tap.buffer] = max(depth[tap.buffer], 1 - tap.row)
                left[tap.buffer] = max(left[tap.buffer], -tap.column)
                right[tap.buffer] = max(right[tap.buffer], tap.column)
        sizes = zip(self.buffers, depth, left, right, strict=True)
        return tuple(replace(b, depth=d, left=le, right=r) for b, d, le, r in sizes)

    def lag(self) -> float:
        """Pixels that row r + 1 has to stay behind row r for everything it reads to be there."""
        lags = [(r // self.steps + 1) / k for reach in self.reaches for k, r in reach.items() if k > 0]
        return max(lags, default=0.0)


def _merge(into: Reach, other: Reach) -> None:
    for k, furthest in other.items():
        into[k] = max(into.get(k, furthest), furthest)
