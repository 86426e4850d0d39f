"""Convolutions as instructions of a pixel program."""

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
) -> Tap:
    """`genfast.ops.masked_conv2d` and a function on it, colour by colour.

    The function's parts (the two halves of a gate) are the parts in which the map of the colours
    restarts (`out_splits`).

    Args:
        weight: (O, I, kh, kw), odd sizes; taps on the rows below, to the right and to later colours are
            left out, whatever they hold.
        before: O channels in `colour_order`, added before the function.
    """
    parts, _ = CHANNELS[function]
    inputs, outputs = weight.shape[1], weight.shape[0] // parts
    kh, kw = weight.shape[2] // 2, weight.shape[3] // 2
    target = builder.buffer(name, outputs, builder.level(x))
    order = colour_order(weight.shape[0], colours, parts).to(weight.device)
    for colour in range(colours):
        first, last = (
            first_channel(colour, outputs, colours),
            first_channel(colour + 1, outputs, colours),
        )
        rows = order[parts * first : parts * last]
        seen = first_channel(colour + (mask_type == "B"), inputs, colours)
        taps, matrix = _taps(x, weight[rows], kh, kw, seen_at_centre=seen)
        builder.compute(
            name if colours == 1 else f"{name}, colour {colour}",
            taps,
            matrix,
            None if bias is None else bias[rows],
            before=() if before is None else (before[parts * first : parts * last],),
            function=function,
            into=target[first:last],
        )
    return target


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
