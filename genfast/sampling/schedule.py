"""When each instruction of a pixel program runs, derived from what it reads; a proof of causality.

A pixel has S steps, its draws. The reach of a value is a table k -> R_k: of the row k above its own it
needs what is known after step R_k, counted in steps from the first one of its own column (so draw d of
the pixel c columns to the right is S c + d). A tap k' rows up and c columns to the right adds k' to
every k and S c to every R_k; the colours of draw d have the reach {0: d}, inputs an empty one. From its
reach follows when an instruction runs: without an entry for row 0 before its row; with R_0 < s before
draw s of its pixel, s as small as can be; else after the row, or after the draws of its pixel if a
pixel of the same row reads it. The parameters of draw d need R_0 < d, or the model is not causal.

A state is read by instructions that run before those that write it: the reaches of all instructions in
between are the least ones that agree with each other. One that reads itself on the right is a scan from
right to left and needs all of its row, R_k = infinity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genfast.sampling.program import Buffer, Compute, Draw, Phase, Tap
from genfast.sampling.reach import Reach, Segment, groups, merge


class Schedule:
    """Analyses instructions, in the order in which they were written.

    Raises:
        ValueError: the model is not causal, or a pixel would need a value that is not there yet; the
            message names the instructions.
    """

    def __init__(
        self,
        buffers: Sequence[Buffer],
        instructions: Sequence[Compute | Draw],
        states: Collection[int],
        height: int,
    ) -> None:
        self.buffers = list(buffers)
        self.height = height
        self._states = states
        self.steps = sum(isinstance(i, Draw) for i in instructions)
        self.reaches: list[Reach] = []
        self._segments: list[list[Segment]] = [[] for _ in buffers]
        for draw in instructions:
            if isinstance(draw, Draw):
                self._image_segment(draw)
        placed: list[Compute | Draw] = []
        for first, stop in groups(instructions, states):
            placed += self._settle(instructions[first:stop])
        for draw in placed:
            if isinstance(draw, Draw):
                self._check_causal(draw)
        phases: list[Phase] = []
        while phases != [i.phase for i in placed]:  # states are read before they are written
            phases = [i.phase for i in placed]
            placed = self._checked(placed)
        self.instructions = [self._with_scan(i) for i in placed]

    def _image_segment(self, draw: Draw) -> None:
        image = next(i for i, b in enumerate(self.buffers) if b.source == "image")
        target = Tap(image, draw.first_colour, draw.colours)
        name = f"the image's colour {draw.first_colour}" if draw.colours == 1 else "the image"
        self._segments[image].append(Segment(target, name, {0: draw.step}, None, Phase.PIXEL))

    # ---- reach and phase ----

    def _settle(self, group: Sequence[Compute | Draw]) -> list[Compute | Draw]:
        """The instructions with their phases, once the reaches of all of them agree."""
        written = [t for i in group if isinstance(i, Compute) for t in i.targets]
        old: list[Reach] = [{}]
        for _ in range(self.height * (len(group) + 1) + 1):  # a row more, or one more of them, each time
            placed = [self._place(i) for i in group]
            new = [dict(s.reach) for t in written for s in self._read(t)]
            if new == old or not any(t.buffer in self._states for t in written):
                return placed
            old = new
        raise ValueError(f"not causal: {group[0].name} needs itself, further and further to the right")

    def _place(self, instruction: Compute | Draw) -> Compute | Draw:
        """The instruction with its phase; POST is told from END later."""
        if isinstance(instruction, Draw):
            return instruction
        reach, furthest = self._reach(instruction.operands, instruction)
        if instruction.target.buffer in self._states:
            reach = {k: r for k, r in reach.items() if k < self.height}  # or it would never end
        last = reach.get(0)
        if last is None:
            phase, step = Phase.ROW, 0
        elif last < self.steps - 1:
            phase, step = Phase.PIXEL, max(0, int(last) + 1)
        else:
            phase, step = Phase.END, 0
        for target in instruction.targets:
            self._write(Segment(target, instruction.name, dict(reach), furthest, phase))
        return replace(instruction, phase=phase, step=step)

    def _write(self, new: Segment) -> None:
        segments = self._segments[new.target.buffer]
        for old in segments:
            if old.target == new.target:  # of another parity, or of the instruction itself
                merge(old.reach, new.reach)
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
            moved: float = self.steps * columns
            if rows == 0 and columns > 0 and self._is_own_state(tap, reader):
                moved = math.inf
            for segment in self._read(tap):
                before = reach.get(0)
                merge(reach, {k - rows: r + moved for k, r in segment.reach.items()})
                if reach.get(0) != before:
                    furthest = segment
        return reach, furthest

    def _is_own_state(self, tap: Tap, reader: Compute | None) -> bool:
        return reader is not None and tap.buffer == reader.target.buffer and tap.buffer in self._states

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
        path: list[str] = []
        while segment is not None and segment.name not in path:
            path.append(segment.name)
            segment = segment.furthest
        what = "all of its row"
        if last < math.inf:
            column, step = divmod(int(last), self.steps)
            what = f"draw {step} of the pixel {column} columns to the right"
        raise ValueError(f"not causal: {draw.name} needs {what}, by way of {' <- '.join(path)}")

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

    def _with_scan(self, instruction: Compute | Draw) -> Compute | Draw:
        """Whether it runs column by column although for a whole row, and in which direction."""
        if isinstance(instruction, Draw) or instruction.phase in (Phase.PIXEL, Phase.POST):
            return instruction
        columns = {tap.column for tap in instruction.operands if self._is_scanned(tap, instruction)}
        if columns and min(columns) < 0 < max(columns):
            raise ValueError(f"{instruction.name} reads itself on both sides: a scan has one direction")
        return replace(instruction, scan=max(-1, min(1, -sum(columns))))

    def _is_scanned(self, tap: Tap, reader: Compute) -> bool:
        """Whether it reads, on its own row, what it writes itself."""
        return tap.row == 0 and any(s.target in reader.targets for s in self._read(tap))

    # ---- splitting ----

    def split(self) -> None:
        """Moves what a product takes from finished rows out of pixels and scans, to whole rows."""
        instructions: list[Compute | Draw] = []
        for instruction in self.instructions:
            if isinstance(instruction, Compute) and (
                instruction.phase in (Phase.PIXEL, Phase.POST) or instruction.scan
            ):
                instructions += self._split(instruction)
            else:
                instructions.append(instruction)
        self.instructions = instructions

    def _split(self, whole: Compute) -> list[Compute]:
        def known(tap: Tap) -> bool:
            if whole.scan:
                return not self._is_scanned(tap, whole)
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
        phase = whole.phase if whole.scan else Phase.ROW
        self._segments.append([Segment(part, name, {}, None, phase)])
        row = replace(
            whole,
            name=name,
            target=part,
            taps=tuple(t for t, _ in early),
            weight=torch.cat([w for _, w in early], 1),
            before=tuple(t for t in whole.before if known(t)),
            after=(),
            function="identity",
            phase=phase,
            step=0,
            cell=None,
            scan=0,
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
        """By phase and step; a step of a pixel ends in its draw."""
        self._number_rows()

        def key(entry: tuple[int, Compute | Draw]) -> tuple[int, int, bool, int]:
            place, instruction = entry
            return instruction.phase, instruction.step, isinstance(instruction, Draw), place

        return tuple(i for _, i in sorted(enumerate(self.instructions), key=key))

    def _number_rows(self) -> None:
        """The steps of whole rows: scans apart from the rest, and side by side where they can be."""
        ran: dict[int, Compute] = {}  # by what was written
        for n, i in enumerate(self.instructions):
            if isinstance(i, Draw) or i.phase in (Phase.PIXEL, Phase.POST):
                continue
            step = abs(i.scan)
            for tap in i.operands:
                for segment in self._read(tap) if self._offset(tap, i)[0] == 0 else ():
                    if segment.phase != i.phase or segment.target in i.targets:
                        continue
                    source = ran.get(id(segment))
                    if source is None:
                        raise ValueError(
                            f"{i.name} reads {segment.name} on its own row, which runs later: what "
                            f"scans a row has to be one instruction"
                        )
                    step = max(step, source.step + abs(source.scan) + abs(i.scan))
            made = self.instructions[n] = replace(i, step=step)
            ran |= {id(s): made for t in made.targets for s in self._read(t)}

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
        reaches = [entry for reach in self.reaches for entry in reach.items() if entry[0] > 0]
        if any(math.isinf(r) for _, r in reaches):
            return math.inf
        return max(((r // self.steps + 1) / k for k, r in reaches), default=0.0)
