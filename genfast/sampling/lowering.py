"""Convolutions and recurrent layers as instructions of a pixel program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genfast.sampling.builder import ProgramBuilder
from genfast.sampling.program import CHANNELS, Function, Tap


def convolution(
    builder: ProgramBuilder,
    name: str,
    x: Tap | Sequence[Tap],
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    above: int = 0,
    left: int = 0,
    stride: int = 1,
    also: Sequence[tuple[Tap, Tensor]] = (),
    **keywords: Any,
) -> Tap:
    """A convolution whose first kernel entry reads `above` rows up and `left` columns to the left.

    Args:
        x: the input, or several whose channels follow one another.
        weight: (O, I, kh, kw).
        stride: 1 or 2; the result is on the next coarser level then.
        also: further taps with weights (O, channels), added to the product.
        keywords: of `ProgramBuilder.compute`.
    """
    if stride not in (1, 2):
        raise ValueError(f"{name}: stride must be 1 or 2, got {stride}")
    sources = [x] if isinstance(x, Tap) else list(x)
    taps: list[Tap] = [tap for tap, _ in also]
    entries: list[Tensor] = [matrix for _, matrix in also]
    for source, part in zip(sources, weight.split([s.channels for s in sources], 1), strict=True):
        more, matrix = _taps(source, part, above, left)
        taps += more
        entries += [] if matrix is None else [matrix]
    level = builder.level(sources[0]) + stride - 1
    return builder.compute(name, taps, torch.cat(entries, 1), bias, level=level, **keywords)


def shifted_convolution(
    builder: ProgramBuilder,
    name: str,
    x: Tap | Sequence[Tap],
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    shift: str,
    stride: int = 1,
    **keywords: Any,
) -> Tap:
    """`genfast.ops.shifted_conv2d`; arguments as `convolution`."""
    kh, kw = weight.shape[2:]
    left = kw - 1 if shift == "down_right" else kw // 2
    return convolution(
        builder, name, x, weight, bias, above=kh - 1, left=left, stride=stride, **keywords
    )


def shifted_convolution_transpose(
    builder: ProgramBuilder,
    name: str,
    x: Tap,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    shift: str,
) -> Tap:
    """`genfast.ops.shifted_conv_transpose2d` with stride 2, onto the next finer level.

    Each parity of row and column sees its own entries of the kernel: output row 2i + p gets entry u of
    input row i - (u - p) / 2 where that is whole, and columns likewise but for the crop.

    Args:
        weight: (I, O, kh, kw).
    """
    kh, kw = weight.shape[2:]
    crop = kw // 2 if shift == "down" else 0
    target = builder.buffer(name, weight.shape[1], builder.level(x) - 1)
    for p in (0, 1):
        for q in (0, 1):
            entries = [
                (x.at((p - u) // 2, (q + crop - v) // 2), weight[:, :, u, v].t())
                for u in range(kh)
                for v in range(kw)
                if (u - p) % 2 == 0 and (v - q - crop) % 2 == 0
            ]
            taps = [tap for tap, _ in entries]
            matrix = torch.cat([w for _, w in entries], 1) if entries else None
            zeros = weight.new_zeros(weight.shape[1]) if bias is None else bias
            builder.compute(name, taps, matrix, zeros, into=target, parity=(p, q))
    return target


def masked_convolution(
    builder: ProgramBuilder,
    name: str,
    x: Tap,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: str,
    colours: int = 1,
    function: Function = "identity",
    before: Tap | None = None,
    plus: Sequence[Tap] = (),
    also: Sequence[tuple[Tap, Tensor]] = (),
    cell: Tap | None = None,
    into: Tap | None = None,
) -> Tap:
    """`genfast.ops.masked_conv2d` and a function on it, colour by colour.

    The function's parts (the two halves of a gate) are the parts in which the map of the colours
    restarts (`out_splits`).

    Args:
        weight: (O, I, kh, kw), odd sizes; taps on the rows below, to the right and to later colours are
            left out, whatever they hold.
        before: O channels in `colour_order`, added before the function.
        plus: what is added to x before the convolution.
        also: further taps with weights (O, channels), added to the product; not masked.
        cell, into: of `ProgramBuilder.compute`, for all colours.
    """
    parts, _ = CHANNELS[function]
    inputs, outputs = weight.shape[1], weight.shape[0] // parts
    kh, kw = weight.shape[2] // 2, weight.shape[3] // 2
    target = into or builder.buffer(name, outputs, builder.level(x))
    order = colour_order(weight.shape[0], colours, parts).to(weight.device)
    for colour in range(colours):
        first, last = (
            first_channel(colour, outputs, colours),
            first_channel(colour + 1, outputs, colours),
        )
        rows = order[parts * first : parts * last]
        seen = first_channel(colour + (mask_type == "B"), inputs, colours)
        taps = [tap for tap, _ in also]
        entries = [matrix[rows] for _, matrix in also]
        for source in (x, *plus):
            more, matrix = _taps(source, weight[rows], kh, kw, seen_at_centre=seen)
            taps += more
            entries += [] if matrix is None else [matrix]
        builder.compute(
            name if colours == 1 else f"{name}, colour {colour}",
            taps,
            torch.cat(entries, 1) if entries else None,
            None if bias is None else bias[rows],
            before=() if before is None else (before[parts * first : parts * last],),
            function=function,
            cell=None if cell is None else cell[first:last],
            into=target[first:last],
        )
    return target


def row_lstm(
    builder: ProgramBuilder,
    name: str,
    x: Tap,
    input_weight: Tensor,
    input_bias: Tensor | None,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    mask_type: str = "B",
    colours: int = 1,
) -> Tap:
    """`genfast.ops.row_lstm` of `masked_conv2d(x, input_weight, input_bias, out_splits=4)`.

    Args:
        input_weight, input_bias: (4h, I, kh, kw) and (4h,), gates in the order i, f, g, o.
        weight: (4h, h, 3), of the hidden state one row up, a column to the left, here, to the right.
        h0, c0: (h,) or (h, W), the states above the image; 0 if None.

    Returns:
        The hidden state, h channels, colour by colour.
    """
    hidden = weight.shape[1]
    shape = hidden, builder.image_shape[2]
    state = builder.state(name, 2 * hidden, above=_outside(name, h0, c0, shape, 0))
    h, c = state[:hidden], state[hidden:]
    return masked_convolution(
        builder, name, x, input_weight, input_bias,
        mask_type=mask_type, colours=colours, function="lstm", cell=c.at(-1, 0), into=h,
        also=[(h.at(-1, column), weight[:, :, 1 + column]) for column in (-1, 0, 1)],
    )  # fmt: skip


def diagonal_lstm(
    builder: ProgramBuilder,
    name: str,
    x: Tap,
    input_weight: Tensor,
    input_bias: Tensor | None,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    reverse: bool = False,
    mask_type: str = "B",
    colours: int = 1,
) -> Tap:
    """`genfast.ops.diagonal_lstm` of `masked_conv2d(x, input_weight, input_bias, out_splits=4)`.

    Reversed it is a scan of the whole row, known once the row is complete: read it one row up. All
    colours are one instruction then, in which what the mask forbids is multiplied by 0.

    Args:
        input_weight, input_bias: (4h, I, kh, kw) and (4h,), gates in the order i, f, g, o.
        weight: (4h, h, 2), of the hidden state one row up, and of that on the left (reversed: right).
        h0, c0: (h,) or (H, h), the states beside the image; 0 if None.

    Returns:
        The hidden state, h channels, colour by colour.
    """
    hidden = weight.shape[1]
    shape = builder.image_shape[1], hidden
    state = builder.state(name, 2 * hidden, beside=_outside(name, h0, c0, shape, 1))
    h, c = state[:hidden], state[hidden:]
    if reverse:
        input_weight = _centre_masked(input_weight, hidden, mask_type, colours)
        mask_type, colours = "B", 1
    beside = 1 if reverse else -1
    return masked_convolution(
        builder, name, x, input_weight, input_bias,
        mask_type=mask_type, colours=colours, function="lstm", cell=c.at(0, beside), into=h,
        also=[(h.at(-1, 0), weight[:, :, 0]), (h.at(0, beside), weight[:, :, 1])],
    )  # fmt: skip


def _centre_masked(weight: Tensor, outputs: int, mask_type: str, colours: int) -> Tensor:
    """The kernel with 0 where the colours forbid; their map restarts every `outputs` outputs."""
    gates, channels = (torch.arange(n, device=weight.device) for n in weight.shape[:2])
    own, other = gates % outputs * colours // outputs, channels * colours // len(channels)
    forbidden = other >= own[:, None] + (mask_type == "B")
    kh, kw = weight.shape[2] // 2, weight.shape[3] // 2
    masked = weight.clone()
    masked[:, :, kh, kw] = masked[:, :, kh, kw].masked_fill(forbidden, 0)
    return masked


def _outside(
    name: str, h0: Tensor | None, c0: Tensor | None, shape: tuple[int, int], units: int
) -> Tensor | None:
    """Both states, each (h,), `shape` or None for 0, side by side along dimension `units` of shape."""
    given = c0 if h0 is None else h0
    if given is None:
        return None
    whole = []
    for what, state in (("h0", h0), ("c0", c0)):
        state = given.new_zeros(shape) if state is None else state
        if tuple(state.shape) == (shape[units],):
            state = state.unsqueeze(1 - units).expand(shape)
        if tuple(state.shape) != shape:
            raise ValueError(
                f"{name}: {what} must have shape {shape} or {(shape[units],)}, got {tuple(state.shape)}"
            )
        whole.append(state)
    return torch.cat(whole, units)


def colour_order(channels: int, colours: int, parts: int) -> Tensor:
    """The channels of a layer's output, colour by colour; inside a colour part by part.

    >>> from genfast.sampling.lowering import colour_order
    >>> colour_order(8, colours=2, parts=2).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    colour = torch.arange(channels // parts) * colours // (channels // parts)
    return torch.argsort(colour.repeat(parts), stable=True)


def first_channel(colour: int, channels: int, colours: int) -> int:
    """The first channel whose colour floor(k * colours / channels) is `colour` or more."""
    return -(-colour * channels // colours)


def _taps(
    x: Tap, weight: Tensor, above: int, left: int, seen_at_centre: int | None = None
) -> tuple[list[Tap], Tensor | None]:
    """Taps of a kernel and its entries side by side, (O, channels of the taps).

    With seen_at_centre, those of a masked kernel with its centre at (above, left): of the centre only
    that many channels, and nothing after it.
    """
    taps, entries = [], []
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            channels = x.channels
            if seen_at_centre is not None and (u, v) >= (above, left):
                channels = seen_at_centre if (u, v) == (above, left) else 0
            if channels:
                taps.append(x.at(u - above, v - left)[:channels])
                entries.append(weight[:, :channels, u, v])
    return taps, torch.cat(entries, 1) if entries else None
