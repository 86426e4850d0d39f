"""Pixel programs as the native engine reads them: numbers and one block of fp32 weights.

csrc/pixel_sampler/pixel_sampler.h tells the layout of memory and weights, pixel_sampler_bindings.cpp
reads what is written here, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from genfast.sampling.program import Buffer, Compute, Draw, Function, Head, Program, Source, Tap

_PAD, _PANEL = 16, 64  # kPixelPad, kPixelPanel

_FUNCTIONS, _HEADS, _SOURCES = (list(get_args(kind)) for kind in (Function, Head, Source))


class PackedProgram:
    """A program's `code` (ints) and `weights` (one fp32 tensor on the CPU)."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._weights: list[Tensor] = []
        self._used = 0
        self._for_gates = _added_to_gates(program)
        self._segments = [self._written(n) for n in range(len(program.buffers))]
        colours, height, width = program.image_shape
        code = [colours, height, width, program.levels, program.outputs, len(program.buffers)]
        for number, buffer in enumerate(program.buffers):
            code += self._buffer(number, buffer)
        code.append(len(program.instructions))
        output = 0
        for instruction in program.instructions:
            code += [instruction.phase, isinstance(instruction, Draw)]
            if isinstance(instruction, Draw):
                code += self._draw(instruction, output)
                output += instruction.parameters.channels
            else:
                code += self._compute(instruction)
        self.code = [int(number) for number in code]
        self.weights = torch.cat([w.flatten() for w in self._weights])

    # ---- channels in memory ----

    def _written(self, number: int) -> list[tuple[int, int, int]]:
        """What is written together in a buffer, as (first channel, channels, first place in memory).

        Each such segment begins at a multiple of _PAD, so that whole vectors can be stored.
        """
        computes = (i for i in self._program.instructions if isinstance(i, Compute))
        targets = {(t.start, t.channels) for i in computes for t in i.targets if t.buffer == number}
        segments, place = [], 0
        for start, channels in sorted(targets or {(0, self._program.buffers[number].channels)}):
            segments.append((start, channels, place))
            place += 4 * _padded(channels // 4) if number in self._for_gates else _padded(channels)
        return segments

    def _pieces(self, tap: Tap) -> list[Tap]:
        """The tap, cut into runs of memory; `start` is then a place in memory."""
        pieces: list[Tap] = []
        for start, channels, place in self._segments[tap.buffer]:
            first, last = max(tap.start, start), min(tap.stop, start + channels)
            if first >= last:
                continue
            piece = Tap(tap.buffer, place + first - start, last - first, tap.row, tap.column)
            if pieces and pieces[-1].stop == piece.start:
                pieces[-1] = Tap(
                    tap.buffer,
                    pieces[-1].start,
                    pieces[-1].channels + piece.channels,
                    tap.row,
                    tap.column,
                )
            else:
                pieces.append(piece)
        return pieces

    def _buffer(self, number: int, buffer: Buffer) -> list[int]:
        columns = 1 if buffer.source == "vector" else self._program.columns(buffer.level)
        _, channels, place = self._segments[number][-1]
        padded = 4 * _padded(channels // 4) if number in self._for_gates else place + _padded(channels)
        above = None if buffer.above is None else buffer.above.t()
        return [
            _SOURCES.index(buffer.source), buffer.level, buffer.depth, buffer.left, columns,
            buffer.right, buffer.channels, padded,
            *(self._border(number, values, padded) for values in (above, buffer.beside)),
        ]  # fmt: skip

    def _border(self, number: int, values: Tensor | None, padded: int) -> int:
        """Stores (positions, channels) as memory has the channels; returns where, -1 for nowhere."""
        if values is None:
            return -1
        border = torch.zeros(len(values), padded)
        for start, channels, place in self._segments[number]:
            border[:, place : place + channels] = values[:, start : start + channels].detach()
        return self._store(border)

    # ---- instructions ----

    def _draw(self, draw: Draw, output: int) -> list[int]:
        (tap,) = self._together([draw.parameters], draw.name)
        return [_HEADS.index(draw.head), *_numbers(tap), draw.first_colour, draw.colours, output]

    def _compute(self, made: Compute) -> list[int]:
        taps, weight, before = list(made.taps), made.weight, list(made.before)
        gates = made.function == "lstm" or made.target.buffer in self._for_gates
        for tap in made.before:
            ordered = not gates or tap.buffer in self._for_gates
            if len(self._pieces(tap)) > 1 or not ordered:  # it cannot be added, but a product be taken
                before.remove(tap)
                one = torch.eye(tap.channels)
                weight = one if weight is None else torch.cat([weight.float().cpu(), one], 1)
                taps.append(tap)
        pieces = [p for tap in taps for p in self._pieces(tap)]
        before = self._together(before, made.name)
        after = self._together(made.after, made.name)
        target, *cell = (p for tap in made.targets for p in self._pieces(tap))
        parity = (-1, -1) if made.parity is None else made.parity
        outputs = 4 * _padded(made.outputs // 4) if gates else made.outputs
        rows = _gate_rows if gates else _padded_rows
        code = [_FUNCTIONS.index(made.function), *_numbers(target)]
        code += [self._program.buffers[made.target.buffer].level, outputs, *parity]
        code += [made.scan, made.step, cell[0].start - target.start if cell else 0]
        code += [-1 if weight is None else self._store(_panels(rows(weight)))]
        code += [-1 if made.bias is None else self._store(rows(made.bias[:, None]))]
        cells = [] if made.cell is None else self._pieces(made.cell)
        for kind in (pieces, before, after, cells):
            code += [len(kind), *(n for tap in kind for n in _numbers(tap))]
        return code

    def _together(self, taps: Sequence[Tap], name: str) -> list[Tap]:
        pieces = [self._pieces(tap) for tap in taps]
        if any(len(p) != 1 for p in pieces):
            raise ValueError(
                f"{name} reads channels that were written in parts, as they are: give each part an "
                f"instruction of its own"
            )
        return [p[0] for p in pieces]

    def _store(self, values: Tensor) -> int:
        """Appends to the weights; returns where."""
        place = self._used
        self._weights.append(values)
        self._used += values.numel()
        return place


def _numbers(tap: Tap) -> list[int]:
    return [tap.buffer, tap.start, tap.channels, tap.row, tap.column]


def _padded(channels: int) -> int:
    return -(-channels // _PAD) * _PAD


def _padded_rows(matrix: Tensor) -> Tensor:
    matrix = matrix.detach().float().cpu()
    return torch.cat([matrix, matrix.new_zeros(_padded(len(matrix)) - len(matrix), matrix.shape[1])])


def _gate_rows(matrix: Tensor) -> Tensor:
    """Rows i, f, g, o of all units as those of _PAD units, then of the next _PAD, each gate padded."""
    gates = torch.stack([_padded_rows(gate) for gate in matrix.chunk(4)])
    units = gates.view(4, -1, _PAD, matrix.shape[1])
    return units.transpose(0, 1).reshape(-1, matrix.shape[1])


def _panels(rows: Tensor) -> Tensor:
    """(padded outputs, channels) as [panel][channel][output]."""
    return torch.cat([panel.t().flatten() for panel in rows.split(_PANEL)])


def _added_to_gates(program: Program) -> set[int]:
    """Buffers that are only added to the gates of an lstm: they can lie in memory as those do."""
    computes = [i for i in program.instructions if isinstance(i, Compute)]
    drawn = {d.parameters.buffer for d in program.draw_steps}

    def only_added(buffer: int) -> bool:
        whole = Tap(buffer, 0, program.buffers[buffer].channels)
        writers = [i for i in computes if i.target.buffer == buffer]
        readers = [i for i in computes if any(t.buffer == buffer for t in i.operands)]
        return (
            [(i.target, i.function) for i in writers] == [(whole, "identity")]
            and all(i.function == "lstm" for i in readers)
            and all(t.here() == whole for i in readers for t in i.before if t.buffer == buffer)
            and not any(t.buffer == buffer for i in readers for t in i.taps)
        )

    added = {t.buffer for i in computes if i.function == "lstm" for t in i.before}
    return {buffer for buffer in added - drawn if only_added(buffer)}
