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
        targets = {(i.target.start, i.target.channels) for i in computes if i.target.buffer == number}
        segments, place = [], 0
        for start, channels in sorted(targets or {(0, self._program.buffers[number].channels)}):
            segments.append((start, channels, place))
            place += _padded(channels)
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
        return [
            _SOURCES.index(buffer.source), buffer.level, buffer.depth, buffer.left, columns,
            buffer.right, buffer.channels, place + _padded(channels),
        ]  # fmt: skip

    # ---- instructions ----

    def _draw(self, draw: Draw, output: int) -> list[int]:
        (tap,) = self._together([draw.parameters], draw.name)
        return [_HEADS.index(draw.head), *_numbers(tap), draw.first_colour, draw.colours, output]

    def _compute(self, made: Compute) -> list[int]:
        if made.cell is not None:
            raise ValueError(f"{made.name}: the native engine has no lstm yet; use the interpreter")
        taps, weight, before = list(made.taps), made.weight, list(made.before)
        for tap in made.before:
            if len(self._pieces(tap)) > 1:  # vectors cannot be added to it, but a product can be taken
                before.remove(tap)
                one = torch.eye(tap.channels)
                weight = one if weight is None else torch.cat([weight.float().cpu(), one], 1)
                taps.append(tap)
        pieces = [p for tap in taps for p in self._pieces(tap)]
        before = self._together(before, made.name)
        after = self._together(made.after, made.name)
        (target,) = self._pieces(made.target)
        parity = (-1, -1) if made.parity is None else made.parity
        code = [_FUNCTIONS.index(made.function), *_numbers(target)]
        code += [self._program.buffers[made.target.buffer].level, made.outputs, *parity]
        code += [-1 if weight is None else self._store(_panels(weight))]
        code += [-1 if made.bias is None else self._store(_padded_rows(made.bias[:, None]))]
        for kind in (pieces, before, after):
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


def _panels(weight: Tensor) -> Tensor:
    """(outputs, channels) as [panel][channel][output]."""
    return torch.cat([panel.t().flatten() for panel in _padded_rows(weight).split(_PANEL)])
