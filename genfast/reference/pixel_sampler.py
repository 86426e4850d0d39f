"""The interpreter of pixel programs in plain PyTorch: the specification of the native engine.

A program (`genfast.sampling.Program`) says what to compute; docs/pixel-sampler.md explains it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast.reference.draws import categorical
from genfast.reference.logistic_mixture import logistic_mixture_levels


def _concat_elu(z: Tensor) -> Tensor:
    return F.elu(torch.cat([z, -z], -1))


def _gate(z: Tensor) -> Tensor:
    a, b = z.chunk(2, -1)
    return torch.tanh(a) * torch.sigmoid(b)


def _glu(z: Tensor) -> Tensor:
    a, b = z.chunk(2, -1)
    return a * torch.sigmoid(b)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": F.relu,
    "elu": F.elu,
    "concat_elu": _concat_elu,
    "gate": _gate,
    "glu": _glu,
}


def _lstm(z: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = z.chunk(4, -1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


class PixelInterpreter:
    """Samples images row by row, in the dtype and on the device of the program's weights.

    Args:
        program: a `genfast.sampling.Program`.
        x: (N, C, H, W) int64 levels, filled in place.
        known: (N, C, H, W) bool: values of `x` to keep.
        uniforms: maps a row to its uniforms (W, N, program.draws).
        inputs: the program's inputs by name, (N, channels, H, W) or (N, channels).
        temperature: divides logits and multiplies the scales of logistic distributions.
        outputs: (N, program.outputs, H, W), filled with the parameters of every draw if given.
    """

    def __init__(
        self,
        program: Any,
        x: Tensor,
        known: Tensor,
        uniforms: Callable[[int], Tensor],
        *,
        inputs: Mapping[str, Tensor] | None = None,
        temperature: float = 1.0,
        outputs: Tensor | None = None,
    ) -> None:
        self.program, self.x, self.known = program, x, known
        self.uniforms, self.temperature, self.outputs = uniforms, temperature, outputs
        self.inputs = {name: value.to(program.weights[0]) for name, value in (inputs or {}).items()}
        levels = torch.arange(program.levels, device=x.device, dtype=torch.float64)
        exact = torch.promote_types(program.weights[0].dtype, torch.float32)
        self.scaled = (levels.to(exact) * (2 / (program.levels - 1)) - 1).to(program.weights[0])
        self.lists = [program.phase(phase) for phase in range(4)]
        self.state = [self._memory(buffer) for buffer in program.buffers]

    def _memory(self, buffer: Any) -> Tensor:
        """Of a map: its last `depth` rows with zeros around them, (depth, columns, N, channels).

        Before the first row those are the rows above the image.
        """
        if buffer.source == "vector":
            vector: Tensor = self.inputs[buffer.name][None]
            return vector
        columns = buffer.left + self.program.columns(buffer.level) + buffer.right
        rows: Tensor = self.scaled.new_zeros(buffer.depth, columns, len(self.x), buffer.channels)
        if buffer.above is not None:
            rows[:, buffer.left :][:, : buffer.above.shape[1]] = buffer.above.t()[:, None]
        return rows

    def run(self, first: int, last: int) -> None:
        """Samples the rows first .. last - 1; rows are sampled in their order, each once."""
        with torch.no_grad(), torch.autocast(self.x.device.type, enabled=False):
            for row in range(first, last):
                self._run_row(row)

    def _run_row(self, row: int) -> None:
        before, pixel, after, end = self.lists
        self._start_row(row)
        uniforms = self.uniforms(row)
        for instruction in before:
            self._compute_row(instruction, row)
        for column in range(self.program.image_shape[2]):
            for instruction in pixel:
                if hasattr(instruction, "head"):
                    self._draw(instruction, row, column, uniforms[column])
                else:
                    self._compute(instruction, row, column)
            for instruction in after:
                self._compute(instruction, row, column)
        if row + 1 < self.program.image_shape[1]:  # only later rows read what runs at the end of a row
            for instruction in end:
                self._compute_row(instruction, row)

    def _start_row(self, row: int) -> None:
        """Fills the row of what is known beforehand."""
        for buffer, memory in zip(self.program.buffers, self.state, strict=True):
            if buffer.beside is not None:
                whole = memory[row % buffer.depth]
                for outside in (whole[: buffer.left], whole[len(whole) - buffer.right :]):
                    outside.copy_(buffer.beside[row])
            inside = memory[row % buffer.depth, buffer.left :][: self.program.image_shape[2]]
            if buffer.source == "ones":
                inside.fill_(1)
            elif buffer.source == "map":
                inside.copy_(self.inputs[buffer.name][:, :, row].permute(2, 0, 1))

    def _compute_row(self, instruction: Any, row: int) -> None:
        """Runs an instruction on a row: at all columns at once, or one after the other."""
        if not instruction.scan:
            self._compute(instruction, row, None)
            return
        for column in range(self.program.image_shape[2])[:: instruction.scan]:
            self._compute(instruction, row, column)

    def _compute(self, instruction: Any, row: int, column: int | None) -> None:
        """Runs an instruction at a pixel, or at all columns of a row; nothing if its level has none."""
        level = self.program.buffers[instruction.target.buffer].level
        stride = 1 << level
        if row % stride or (column is not None and column % stride):
            return
        i, j, step = row >> level, 0 if column is None else column >> level, 1
        count = 1 if column is not None else self.program.columns(level)
        if instruction.parity is not None:
            if i % 2 != instruction.parity[0] or (column is not None and j % 2 != instruction.parity[1]):
                return
            if column is None:
                j, step = instruction.parity[1], 2
                count = (count - j + 1) // 2
        if count < 1:
            return

        def read(tap: Any) -> Tensor:
            return self._read(tap, level, i, j, step, count)

        z = instruction.bias
        if instruction.weight is not None:
            taps = [read(tap) for tap in instruction.taps]
            z = F.linear(taps[0] if len(taps) == 1 else torch.cat(taps, -1), instruction.weight, z)
        z = _sum(z, [read(tap) for tap in instruction.before])
        if instruction.cell is None:
            y = FUNCTIONS[instruction.function](z)
        else:
            y, cell = _lstm(z, read(instruction.cell))
            self._columns(instruction.cell.here(), i, j, step, count).copy_(cell)
        y = _sum(y, [read(tap) for tap in instruction.after])
        self._columns(instruction.target, i, j, step, count).copy_(y)

    def _read(self, tap: Any, level: int, i: int, j: int, step: int, count: int) -> Tensor:
        """(count, N, channels): a tap at row i and columns j, j + step, ... of a level."""
        source = self.program.buffers[tap.buffer]
        if source.source == "vector":
            channels = slice(tap.start, tap.start + tap.channels)
            vector: Tensor = self.state[tap.buffer][..., channels]
            return vector.expand(count, -1, -1)
        if source.level > level:  # the parity makes the step 2, and i and j multiples of 2 apart from it
            i, j, step = i >> 1, j >> 1, 1
        else:
            finer = level - source.level
            i, j, step = i << finer, j << finer, step << finer
        return self._columns(tap, i + tap.row, j + tap.column, step, count)

    def _columns(self, tap: Any, i: int, j: int, step: int, count: int) -> Tensor:
        buffer = self.program.buffers[tap.buffer]
        first, channels = buffer.left + j, slice(tap.start, tap.start + tap.channels)
        row = self.state[tap.buffer][i % buffer.depth]
        columns: Tensor = row[first : first + (count - 1) * step + 1 : step, :, channels]
        return columns

    def _draw(self, draw: Any, row: int, column: int, uniforms: Tensor) -> None:
        """Draws the colours of a pixel that are not known, and shows them to the program."""
        parameters = self._columns(draw.parameters, row, column, 1, 1)[0]
        if self.outputs is not None:
            done = sum(d.parameters.channels for d in self.program.draw_steps[: draw.step])
            self.outputs[:, done : done + draw.parameters.channels, row, column] = parameters
        colours = slice(draw.first_colour, draw.first_colour + draw.colours)
        drawn = _draw(draw.head, parameters, uniforms, draw.first_colour, self)
        x = self.x[:, colours, row, column]
        x.copy_(torch.where(self.known[:, colours, row, column], x, drawn))
        for number, buffer in enumerate(self.program.buffers):
            if buffer.source == "image":
                memory = self.state[number][row % buffer.depth, buffer.left + column]
                memory[:, colours] = self.scaled[x]


def _draw(head: str, parameters: Tensor, uniforms: Tensor, colour: int, run: PixelInterpreter) -> Tensor:
    """Levels (N, colours) from the parameters of a pixel."""
    parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
    if head == "logistic_mixture":
        levels, temperature = run.program.levels, run.temperature
        return logistic_mixture_levels(parameters, uniforms, levels=levels, temperature=temperature)
    if head == "bernoulli":
        parameters = torch.cat([torch.zeros_like(parameters), parameters], -1)
    return categorical(parameters / run.temperature, uniforms[:, colour])[:, None]


def _sum(first: Tensor | None, others: Sequence[Tensor]) -> Tensor:
    total = first
    for other in others:
        total = other if total is None else total + other
    assert total is not None  # the builder refuses an instruction that adds nothing
    return total
