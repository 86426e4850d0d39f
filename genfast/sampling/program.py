"""Pixel programs: a causal model written down so that sampling works O(1) a pixel.

A program computes the channels of buffers, each a map over the positions of a level (level l: every
2^l-th row and column of the image), by two instructions:

    Compute   target = function(weight . taps + bias + sum of before) + sum of after
    Draw      colours of the image = a draw from the distribution whose parameters are `parameters`

A tap reads channels of a buffer a few rows and columns away; outside the map it reads 0, or the borders
of the buffer. When an instruction runs (its phase) follows from what it reads; docs/pixel-sampler.md
tells how.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

from torch import Tensor

Function = Literal["identity", "relu", "elu", "concat_elu", "gate", "glu", "lstm"]
Head = Literal["bernoulli", "categorical", "logistic_mixture"]
Source = Literal["computed", "image", "ones", "map", "vector"]

#: Channels that a function takes for each that it gives, as (in, out).
CHANNELS: dict[Function, tuple[int, int]] = {
    "identity": (1, 1),
    "relu": (1, 1),
    "elu": (1, 1),
    "concat_elu": (1, 2),  # elu(z), elu(-z)
    "gate": (2, 1),  # z = (a, b): tanh(a) sigmoid(b)
    "glu": (2, 1),  # z = (a, b): a sigmoid(b)
    "lstm": (4, 1),  # z = (i, f, g, o): sigmoid(o) tanh(c), c = sigmoid(f) cell + sigmoid(i) tanh(g)
}


class Phase(IntEnum):
    """When an instruction runs, relative to the pixels of its row.

    >>> import genfast
    >>> from genfast.sampling import Phase
    >>> program = genfast.models.GatedPixelCNN((1, 8, 8), 2, channels=4, layers=3).pixel_program()
    >>> [len(program.phase(phase)) for phase in Phase]
    [3, 9, 0, 5]
    """

    ROW = 0  # all columns at once, before the row's first pixel
    PIXEL = 1  # at its pixel, before a draw
    POST = 2  # at its pixel, after the draws
    END = 3  # all columns at once, after the row's last pixel


@dataclass(frozen=True)
class Tap:
    """Channels start .. start + channels - 1 of a buffer, `row` rows and `column` columns away.

    Rows and columns count in positions of the buffer's level. From an instruction at (i, j) of a
    coarser level, f times as coarse, the tap reads (f i + row, f j + column). From one of the next finer
    level with parity (p, q) it reads ((i - p) / 2 + row, (j - q) / 2 + column).

    >>> from genfast.sampling import Tap
    >>> Tap(buffer=0, start=0, channels=8).at(-1, 2)[2:5]
    Tap(buffer=0, start=2, channels=3, row=-1, column=2)
    """

    buffer: int
    start: int
    channels: int
    row: int = 0
    column: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.channels

    def at(self, row: int, column: int) -> Tap:
        """The tap, moved."""
        return replace(self, row=self.row + row, column=self.column + column)

    def here(self) -> Tap:
        """The tap, not moved."""
        return replace(self, row=0, column=0)

    def __getitem__(self, channels: slice) -> Tap:
        """Some of its channels: tap[4:8]."""
        start, stop, step = channels.indices(self.channels)
        if step != 1 or stop <= start:
            raise ValueError(f"channels {channels} of a tap with {self.channels} channels are none")
        return replace(self, start=self.start + start, channels=stop - start)


@dataclass(frozen=True)
class Buffer:
    """A map of `channels` channels over the positions of a level.

    source: "computed" by instructions; the "image"; 1 inside and 0 outside it ("ones"); or known
    beforehand: a "map" over the image or a "vector" for each image. The builder derives how many rows
    back (`depth` - 1) and how many columns beyond the edges anything reads.

    above: (channels, W), what the rows above the image hold; beside: (H, channels), what a row holds
    outside the image on either side. 0 if None.
    """

    name: str
    channels: int
    level: int = 0
    source: Source = "computed"
    depth: int = 1
    left: int = 0
    right: int = 0
    above: Tensor | None = field(default=None, compare=False)
    beside: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Compute:
    """target = function(weight . taps + bias + sum of before) + sum of after.

    weight: (outputs, total channels of the taps), or None without taps; bias: (outputs,) or None.
    parity: runs only at rows i and columns j of its level with i % 2, j % 2 equal to it.
    cell: of an "lstm", where it reads the cell state of an earlier position. The new one goes into the
    same channels of the same buffer, the target's, at its own position.
    scan: the order of columns where a whole row is computed: 0 for all at once, 1 from left to right, -1
    from right to left, because the instruction reads its own results beside it.
    step: inside a phase instructions run by step; at pixels a step ends with its draw, and in a phase of
    whole rows those of a step either all are scans, independent of one another, or none is.
    """

    name: str
    target: Tap
    taps: tuple[Tap, ...]
    weight: Tensor | None
    bias: Tensor | None
    before: tuple[Tap, ...]
    after: tuple[Tap, ...]
    function: Function
    parity: tuple[int, int] | None
    phase: Phase = Phase.END
    step: int = 0
    cell: Tap | None = None
    scan: int = 0

    @property
    def outputs(self) -> int:
        """Channels that the function takes."""
        taken, given = CHANNELS[self.function]
        return self.target.channels * taken // given

    @property
    def operands(self) -> tuple[Tap, ...]:
        return self.taps + self.before + self.after + (() if self.cell is None else (self.cell,))

    @property
    def targets(self) -> tuple[Tap, ...]:
        """Everything that it writes."""
        return (self.target,) if self.cell is None else (self.target, self.cell.here())


@dataclass(frozen=True)
class Draw:
    """Draws `colours` colours of the image, from `first_colour` on, and writes them into it.

    Draw number `step` of a pixel. A Bernoulli or categorical head draws one colour by uniform number
    `first_colour` of the pixel; a mixture of logistics draws all of them at once, by uniform 0 for the
    component and 1 + c for colour c.
    """

    name: str
    parameters: Tap
    head: Head
    first_colour: int
    colours: int
    step: int
    phase: Phase = Phase.PIXEL


@dataclass(frozen=True)
class Program:
    """A causal model as instructions; see `ProgramBuilder`.

    image_shape: (C, H, W). draws: uniforms that a pixel takes. lag: how many pixels the row below has
    to stay behind when rows run side by side (the wavefront), infinity if it needs the whole row above.
    outputs: channels of all the parameters that draws read, one draw's after the other's.

    >>> import genfast
    >>> program = genfast.models.GatedPixelCNN((3, 8, 8), levels=4, channels=6).pixel_program()
    >>> program.draws, program.outputs, program.lag
    (3, 12, 11.0)
    """

    image_shape: tuple[int, int, int]
    levels: int
    buffers: tuple[Buffer, ...]
    instructions: tuple[Compute | Draw, ...]  # those of a phase in the order in which they run
    lag: float
    reaches: tuple[dict[int, float], ...] = field(
        repr=False
    )  # of the draws' parameters; see schedule.py

    def phase(self, phase: Phase) -> tuple[Compute | Draw, ...]:
        """The instructions of a phase in the order in which they run."""
        return tuple(i for i in self.instructions if i.phase == phase)

    @property
    def draw_steps(self) -> tuple[Draw, ...]:
        return tuple(i for i in self.instructions if isinstance(i, Draw))

    @property
    def draws(self) -> int:
        colours = self.image_shape[0]
        return colours + (self.draw_steps[0].head == "logistic_mixture")

    @property
    def outputs(self) -> int:
        return sum(d.parameters.channels for d in self.draw_steps)

    @property
    def row_products(self) -> int:
        """Multiplications an image that a row takes in the phases that run for whole rows."""
        total = 0
        for i in (*self.phase(Phase.ROW), *self.phase(Phase.END)):
            if isinstance(i, Compute) and i.weight is not None:
                level = self.buffers[i.target.buffer].level
                total += i.weight.numel() * self.columns(level) >> level
        return total

    @property
    def pixel_products(self) -> int:
        """Multiplications an image that a pixel takes, on average, in the phases that run at pixels."""
        total = 0
        for i in (*self.phase(Phase.PIXEL), *self.phase(Phase.POST)):
            if isinstance(i, Compute) and i.weight is not None:
                level = self.buffers[i.target.buffer].level
                total += i.weight.numel() >> 2 * (level + (i.parity is not None))
        return total

    @property
    def inputs(self) -> dict[str, Buffer]:
        """What has to be known beforehand, by name."""
        return {b.name: b for b in self.buffers if b.source in ("map", "vector")}

    @property
    def weights(self) -> list[Tensor]:
        computes = (i for i in self.instructions if isinstance(i, Compute))
        used = [w for i in computes for w in (i.weight, i.bias)]
        borders = [w for b in self.buffers for w in (b.above, b.beside)]
        return [w for w in used + borders if w is not None]

    def columns(self, level: int) -> int:
        """Columns of a level's maps."""
        return (self.image_shape[2] - 1 >> level) + 1

    def describe(self) -> str:
        """The instructions, a line each, by phase.

        >>> import genfast
        >>> model = genfast.models.GatedPixelCNN((1, 8, 8), levels=2, channels=4, layers=1)
        >>> print(model.pixel_program().describe())
        ROW    blocks.0.link: identity of blocks.0.vertical[-1]
        PIXEL  blocks.0.horizontal: gate of image, blocks.0.link
        PIXEL  blocks.0.out: relu of blocks.0.horizontal
        PIXEL  head.1: relu of blocks.0.out
        PIXEL  head.3: identity of head.1
        PIXEL  draw 0: bernoulli of head.3
        END    blocks.0.vertical: identity of image[-3..0]
        """
        return "\n".join(f"{i.phase.name:<6} {i.name}: {self._reads(i)}" for i in self.instructions)

    def _reads(self, instruction: Compute | Draw) -> str:
        if isinstance(instruction, Draw):
            return f"{instruction.head} of {self.buffers[instruction.parameters.buffer].name}"
        rows: dict[str, list[int]] = {}
        for tap in instruction.operands:
            rows.setdefault(self.buffers[tap.buffer].name, []).append(tap.row)
        texts = []
        for name, read in rows.items():
            low, high = min(read), max(read)
            span = f"{low}" if low == high else f"{low}..{high}"
            texts.append(name if low == high == 0 else f"{name}[{span}]")
        return f"{instruction.function} of {', '.join(texts)}"
