"""Writing pixel programs down: the instructions first, then everything that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from genfast.sampling.program import (
    CHANNELS,
    Buffer,
    Compute,
    Draw,
    Function,
    Head,
    Program,
    Source,
    Tap,
)
from genfast.sampling.schedule import Schedule


class ProgramBuilder:
    """Collects the instructions of a pixel program.

    Every method returns a `Tap` on what it made, ready to be read by later instructions. Nothing may be
    read before it is written, but a `state` at other positions. `build` derives the phases and proves
    that the program is causal.

    Args:
        image_shape: (C, H, W).
        levels: values a colour can take; the program reads the image as 2x / (levels - 1) - 1.

    >>> import torch
    >>> from genfast.sampling import ProgramBuilder
    >>> builder = ProgramBuilder((1, 4, 4), levels=2)
    >>> left = builder.image.at(0, -1)
    >>> logit = builder.compute("logit", [left], torch.tensor([[1.0]]), torch.tensor([0.5]))
    >>> _ = builder.draw(logit, "bernoulli")
    >>> print(builder.build().describe())
    PIXEL  logit: identity of image
    PIXEL  draw 0: bernoulli of logit
    """

    def __init__(self, image_shape: tuple[int, int, int], levels: int) -> None:
        self.image_shape = image_shape
        self.levels = levels
        self._buffers: list[Buffer] = []
        self._instructions: list[Compute | Draw] = []
        self._written: dict[int, list[Compute]] = {}
        self._states: set[int] = set()
        self.image = self._add("image", image_shape[0], 0, "image")

    def ones(self) -> Tap:
        """A channel that is 1 inside the image and 0 outside."""
        return self._add("ones", 1, 0, "ones")

    def map(self, name: str, channels: int) -> Tap:
        """An input known beforehand: (N, channels, H, W)."""
        return self._add(name, channels, 0, "map")

    def vector(self, name: str, channels: int) -> Tap:
        """An input known beforehand that is the same at every position: (N, channels)."""
        return self._add(name, channels, 0, "vector")

    def buffer(self, name: str, channels: int, level: int = 0) -> Tap:
        """A buffer for `compute` to write into, where several instructions share one."""
        return self._add(name, channels, level, "computed")

    def state(
        self,
        name: str,
        channels: int,
        *,
        above: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tap:
        """A buffer whose instructions read what they themselves have written at earlier positions.

        Args:
            above: (channels,) or (channels, W), what the rows above the image hold; 0 if None.
            beside: (channels,) or (H, channels), what rows hold outside the image on both sides.
        """
        _, height, width = self.image_shape
        state = self._add(name, channels, 0, "computed")
        self._states.add(state.buffer)
        self._buffers[-1] = replace(
            self._buffers[-1],
            above=None if above is None else _border(f"{name}: above", above, (channels, width), 1),
            beside=None if beside is None else _border(f"{name}: beside", beside, (height, channels), 0),
        )
        return state

    def _add(self, name: str, channels: int, level: int, source: Source) -> Tap:
        if channels < 1:
            raise ValueError(f"{name}: a buffer needs at least 1 channel, got {channels}")
        self._buffers.append(Buffer(name, channels, level, source))
        return Tap(len(self._buffers) - 1, 0, channels)

    def level(self, tap: Tap) -> int:
        """The level of the buffer that a tap reads."""
        return self._buffers[tap.buffer].level

    def compute(
        self,
        name: str,
        taps: Sequence[Tap] = (),
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        before: Sequence[Tap] = (),
        after: Sequence[Tap] = (),
        function: Function = "identity",
        into: Tap | None = None,
        level: int = 0,
        parity: tuple[int, int] | None = None,
        cell: Tap | None = None,
    ) -> Tap:
        """function(weight . taps + bias + sum of before) + sum of after, as a new buffer.

        Args:
            name: of the layer, for error messages.
            taps: what the weight is multiplied with.
            weight: (outputs, total channels of the taps).
            bias: (outputs,).
            before: added before the function, each with `outputs` channels.
            after: added after the function, each with as many channels as the result.
            function: see `program.CHANNELS`.
            into: the channels to write instead of a new buffer's.
            level: of the new buffer.
            parity: of the rows and columns to write; the instruction may read the next coarser level.
            cell: of an "lstm": channels of the state that `into` belongs to, moved to where the cell
                state is read; the new one is written there, unmoved.

        Raises:
            ValueError: channels that do not fit, rows below, levels out of reach, or something read
                before it is written.
        """
        if function == "identity":
            before, after = (*before, *after), ()
        outputs = _outputs(name, taps, weight, bias, before)
        taken, given = CHANNELS[function]
        if outputs % taken:
            raise ValueError(f"{name}: {function} needs an even number of channels, got {outputs}")
        channels = outputs // taken * given
        target = into or self.buffer(name, channels, level)
        if target.channels != channels or any(t.channels != channels for t in after):
            sizes = [target.channels, *(t.channels for t in after)]
            raise ValueError(f"{name}: gives {channels} channels, but target and after have {sizes}")
        made = Compute(
            name, target, tuple(taps), weight, bias, tuple(before), tuple(after), function, parity,
            cell=cell,
        )  # fmt: skip
        self._check_cell(made)
        for tap in made.operands:
            self._check_operand(made, tap)
        for tap in made.targets:
            self._check_target(made, tap)
        self._instructions.append(made)
        self._written.setdefault(target.buffer, []).append(made)
        return target

    def draw(self, parameters: Tap, head: Head, colour: int = 0) -> None:
        """Draws a colour, or all at once if the head is "logistic_mixture".

        Args:
            parameters: the logit, the logits of the levels, or the 10K (grey: 3K) channels of a mixture.
            head: the distribution.
            colour: the one that is drawn; draws go in the order of the colours.
        """
        step = sum(isinstance(i, Draw) for i in self._instructions)
        colours = self.image_shape[0] if head == "logistic_mixture" else 1
        wanted = {"bernoulli": 1, "categorical": self.levels}.get(head, parameters.channels)
        mixture = 10 if colours == 3 else 3
        if head == "logistic_mixture" and (colours not in (1, 3) or parameters.channels % mixture):
            raise ValueError(
                f"draw {step}: a logistic_mixture needs 10K channels for 3 colours or 3K for 1, "
                f"got {parameters.channels} for {colours}"
            )
        if parameters.channels != wanted:
            raise ValueError(f"draw {step}: {head} needs {wanted} channels, got {parameters.channels}")
        if colour != step:
            raise ValueError(f"draw {step}: colours are drawn in their order, got colour {colour}")
        self._check_covered(f"draw {step}", parameters)
        made = Draw(f"draw {step}", parameters, head, colour, colours, step)
        self._instructions.append(made)

    def build(self, *, split: bool = True) -> Program:
        """The program.

        Args:
            split: whether a product that reads finished rows as well as the current one is split, so
                that the former part runs for a whole row at once.

        Raises:
            ValueError: colours without a draw, or a program that is not causal.
        """
        draws = [i for i in self._instructions if isinstance(i, Draw)]
        drawn = sum(d.colours for d in draws)
        if drawn != self.image_shape[0]:
            raise ValueError(f"{drawn} colours are drawn, but the image has {self.image_shape[0]}")
        for number in self._states:
            whole = Tap(number, 0, self._buffers[number].channels)
            self._check_covered("the program", whole)
        schedule = Schedule(self._buffers, self._instructions, self._states, self.image_shape[1])
        if split:
            schedule.split()
        return Program(
            self.image_shape,
            self.levels,
            schedule.measured(),
            schedule.ordered(),
            schedule.lag(),
            tuple(schedule.reaches),
        )

    # ---- checks ----

    def _check_operand(self, made: Compute, tap: Tap) -> None:
        source, own = self._buffers[tap.buffer], self.level(made.target)
        if tap.row > 0:
            raise ValueError(f"{made.name} reads {source.name} {tap.row} rows below: not causal")
        if source.source == "vector" and (tap.row or tap.column):
            raise ValueError(f"{made.name}: {source.name} is the same everywhere; it has no neighbours")
        if source.level > own and (source.level > own + 1 or made.parity is None):
            raise ValueError(
                f"{made.name} on level {own} reads {source.name} on level {source.level}: it can "
                f"read the next coarser one, and needs a parity for that"
            )
        if tap.buffer not in self._states or not (tap.row or tap.column):
            self._check_covered(made.name, tap)

    def _check_covered(self, name: str, tap: Tap) -> None:
        source = self._buffers[tap.buffer]
        if source.source != "computed":
            return
        written = (t for m in self._written.get(tap.buffer, ()) for t in m.targets)
        covered = {channel for t in written for channel in range(t.start, t.stop)}
        missing = sorted(set(range(tap.start, tap.stop)) - covered)
        if missing:
            raise ValueError(f"{name} reads channel {missing[0]} of {source.name} before it is written")

    def _check_cell(self, made: Compute) -> None:
        cell, target = made.cell, made.target
        if (made.function == "lstm") != (cell is not None):
            raise ValueError(f"{made.name}: an lstm, and no other function, needs a cell")
        if cell is None:
            return
        if made.after:
            raise ValueError(
                f"{made.name}: nothing can be added after an lstm, which reads what it gives"
            )
        if cell.buffer != target.buffer or target.buffer not in self._states or made.parity is not None:
            raise ValueError(f"{made.name}: an lstm writes into a state that its cell is in, no parity")
        apart = cell.start >= target.stop or cell.stop <= target.start
        if cell.channels != target.channels or not apart:
            raise ValueError(
                f"{made.name}: the cell needs {target.channels} channels apart from the target's, "
                f"got {cell.start} to {cell.stop - 1} beside {target.start} to {target.stop - 1}"
            )

    def _check_target(self, made: Compute, target: Tap) -> None:
        if target.row or target.column or self._buffers[target.buffer].source != "computed":
            raise ValueError(f"{made.name}: into must be an unmoved tap on a buffer made by `buffer`")
        for other in self._written.get(target.buffer, ()):
            apart = all(target.stop <= t.start or t.stop <= target.start for t in other.targets)
            by_parity = target == other.target and None not in (made.parity, other.parity)
            if not apart and not (by_parity and made.parity != other.parity):
                raise ValueError(f"{made.name} writes what {other.name} has written")


def _border(what: str, values: Tensor, shape: tuple[int, int], repeated: int) -> Tensor:
    """Values of a given shape, or of its other dimension than `repeated` alone."""
    if tuple(values.shape) == (shape[1 - repeated],):
        return values.unsqueeze(repeated).expand(shape)
    if tuple(values.shape) != shape:
        raise ValueError(
            f"{what} must have shape {shape} or {(shape[1 - repeated],)}, got {tuple(values.shape)}"
        )
    return values


def _outputs(
    name: str, taps: Sequence[Tap], weight: Tensor | None, bias: Tensor | None, before: Sequence[Tap]
) -> int:
    """The channels that the function takes, agreed on by all who add to them."""
    if (weight is None) != (len(taps) == 0):
        raise ValueError(f"{name}: taps and weight go together")
    if weight is not None and weight.shape[1] != sum(t.channels for t in taps):
        total = sum(t.channels for t in taps)
        raise ValueError(f"{name}: weight of shape {tuple(weight.shape)} for taps of {total} channels")
    sizes = {t.channels for t in before}
    sizes |= {len(w) for w in (weight, bias) if w is not None}
    if len(sizes) != 1:
        raise ValueError(
            f"{name}: weight, bias and before must agree on the channels, got {sorted(sizes)}"
        )
    return sizes.pop()
