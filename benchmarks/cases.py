"""What a benchmark is made of: the case, its sides, and how one side is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]

FORWARD = "fwd"  # under no_grad
RECORDED = "fwd, grad recorded"  # the forward of a training step
TRAINING = "fwd+bwd"


@dataclass(frozen=True)
class Side:
    """One way of computing a case's result.

    leaves are the tensors to differentiate by when they are not the inputs (a module's
    parameters). project maps [output, *gradients] to what may be compared, for a side that by
    design computes more than the others (the gradient of a masked tap, say). timed is what is
    timed where that is not fn itself (drawing samples, whose probabilities fn computes); repeat is
    how often it would have to run for what the other sides do in one call, and multiplies its best time.
    directions are those that the side knows, if not all of the case's. bind makes, for one set of
    inputs, what is called in place of fn, forward only (the replay of a captured graph, say).
    """

    fn: Callable[..., Tensor]
    leaves: tuple[Tensor, ...] = ()
    project: Callable[[list[Tensor]], list[Tensor]] | None = None
    timed: Callable[..., object] | None = None
    repeat: int = 1
    directions: Sequence[str] | None = None
    bind: Callable[..., Callable[[], Tensor]] | None = None

    def call(self, inputs: Inputs, upstream: Tensor | None, direction: str) -> list[Tensor]:
        """[output], and in the training direction its gradients too."""
        if self.bind is not None:
            return [self.bind(*inputs)()]
        if direction != TRAINING:
            return [self.fn(*inputs)]
        return _forward_backward(self.fn, inputs, self.leaves or differentiable(inputs), upstream)

    def step(self, inputs: Inputs, upstream: Tensor | None, direction: str) -> Callable[[], object]:
        """`call` bound to one buffer, with nothing added that a per-call time would show."""
        if self.bind is not None:
            return self.bind(*inputs)
        if direction != TRAINING:
            return partial(self.timed or self.fn, *inputs)
        leaves = self.leaves or differentiable(inputs)
        return partial(_forward_backward, self.fn, inputs, leaves, upstream)


@dataclass(frozen=True)
class Bound:
    """The time that no implementation can beat: `share` times that of the side named.

    With a rate (a constant of the GPU, see constants.py) it is at least `share` times the row's flops
    over that rate, and there is no bound where the constant was not measured.
    """

    side: str
    share: float
    text: str
    rate: str | None = None


@dataclass(frozen=True)
class Conv:
    """What decides between two convolutions (genfast.ops.conv_rule): the key of the measured table."""

    arithmetic: str
    kernel: int
    channels: int


@dataclass(frozen=True)
class Case:
    """One setting of one op; a result row comes of each direction.

    inputs makes a fresh set from a generator; reference is given the same in fp64. The side
    "genfast" is the one judged; "eager" sets its error budget and is what torch.compile compiles.
    bytes, flops, bound and reach are per direction; reach maps a side to the speed-up wanted over
    it, reach_us is a time wanted of the call itself, reach_bound a percentage of the bound. slack_ulps
    (of the largest value) widens the error budget where eager's own error is a poor yardstick: where it
    may be nought by luck because few numbers are compared, or turns on the order of a long sum.
    headline counts the row in the summary of the README, as do goals. tf32 lets every side round fp32 to
    TF32; conv is for the rows that decide which convolution is taken; saved also measures how many bytes
    each side keeps for its backward. later: to be measured after all others, should time run out before.
    """

    op: str
    variant: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    inputs: Callable[[torch.Generator], Inputs]
    sides: Mapping[str, Side]
    reference: Side
    directions: Sequence[str] = (FORWARD, TRAINING)
    compile: bool = True
    calls: int = 1
    bytes: Mapping[str, int] = field(default_factory=dict)
    flops: Mapping[str, int] = field(default_factory=dict)
    bound: Mapping[str, Bound] = field(default_factory=dict)
    reach: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reach_us: Mapping[str, float] = field(default_factory=dict)
    reach_bound: Mapping[str, float] = field(default_factory=dict)
    slack_ulps: float = 0.5
    headline: bool = False
    tf32: bool = False
    conv: Conv | None = None
    saved: bool = False
    later: bool = False

    @property
    def name(self) -> str:
        op, variant, shape, dtype = self.key
        return f"{op} {variant} {shape} {dtype}"

    @property
    def key(self) -> tuple[str, str, tuple[int, ...], str]:
        return self.op, self.variant, self.shape, str(self.dtype).removeprefix("torch.")


def differentiable(inputs: Inputs) -> Inputs:
    return tuple(x for x in inputs if x.requires_grad)


def trainable(inputs: Inputs, wanted: bool) -> Inputs:
    """The same values as fresh leaves, requiring gradients where they are floating and wanted."""
    return tuple(x.detach().requires_grad_(wanted and x.is_floating_point()) for x in inputs)


def as_double(inputs: Inputs) -> Inputs:
    return tuple(x.double() if x.is_floating_point() else x for x in inputs)


def _forward_backward(
    fn: Callable[..., Tensor], inputs: Inputs, leaves: Inputs, upstream: Tensor | None
) -> list[Tensor]:
    output = fn(*inputs)
    return [output, *torch.autograd.grad(output, leaves, upstream)]
