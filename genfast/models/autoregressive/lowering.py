"""Layers of masked convolutions as instructions of a pixel program."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from genfast.models.autoregressive.heads import Head
from genfast.nn import MaskedConv2d
from genfast.sampling import ProgramBuilder, Tap
from genfast.sampling.lowering import first_channel, masked_convolution
from genfast.sampling.program import Function


def masked_layer(
    builder: ProgramBuilder,
    name: str,
    layer: MaskedConv2d,
    x: Tap,
    *,
    function: Function = "identity",
    before: Tap | None = None,
    plus: Sequence[Tap] = (),
) -> Tap:
    """function(layer(x + plus) + before); see `genfast.sampling.lowering.masked_convolution`."""
    return masked_convolution(
        builder, name, x, layer.weight, layer.bias,
        mask_type=layer.mask_type, colours=layer.colors, function=function, before=before, plus=plus,
    )  # fmt: skip


def relu(builder: ProgramBuilder, name: str, x: Tap, colours: int) -> Tap:
    """relu(x), colour by colour, so that no colour waits for those after it."""
    target = builder.buffer(name, x.channels)
    edges = [first_channel(colour, x.channels, colours) for colour in range(colours + 1)]
    for first, last in pairwise(edges):
        builder.compute(name, before=[x[first:last]], function="relu", into=target[first:last])
    return target


def lower_head(builder: ProgramBuilder, layers: nn.Sequential, x: Tap, head: Head) -> None:
    """The layers (ReLU, 1x1, ReLU, 1x1), of which `x` has had the first, and the draws."""
    for i in (1, 3):
        layer = layers[i]
        assert isinstance(layer, MaskedConv2d)
        x = masked_layer(builder, f"head.{i}", layer, x, function="relu" if i == 1 else "identity")
    head.lower(builder, x)
