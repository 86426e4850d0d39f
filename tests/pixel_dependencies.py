"""Which pixels and colours of a map reach which of a layer's output: by perturbing one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Group = Tensor  # bool, over the channels


@dataclass(frozen=True)
class Faults:
    """Of a layer: what reaches where it must not, and what does not reach where it must."""

    leaks: int
    missing: int


def colour_groups(channels: int, colors: int) -> list[Group]:
    """The channels of each colour: channel c has colour floor(c * colors / channels)."""
    colour = torch.arange(channels) * colors // channels
    return [colour == c for c in range(colors)]


def reach(
    layer: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    inputs: Sequence[Group],
    outputs: Sequence[Group],
    tries: int = 3,
) -> Tensor:
    """bool (pixel out, colour out, pixel in, colour in), pixels in raster order.

    The layer maps (N, C, H, W) to (N, C', H, W), each image on its own, in fp64.
    """
    height, width = size
    pixels, colors = height * width, len(inputs)
    seen = torch.zeros(pixels, len(outputs), pixels, colors, dtype=torch.bool)
    for seed in range(tries):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, len(inputs[0]), *size, generator=generator, dtype=torch.float64)
        perturbed = x.repeat(pixels * colors, 1, 1, 1)
        for pixel in range(pixels):
            for colour, group in enumerate(inputs):
                perturbed[pixel * colors + colour, group, pixel // width, pixel % width] += 1
        with torch.no_grad():
            change = (layer(perturbed) - layer(x)).abs().flatten(2)
        for colour, group in enumerate(outputs):
            largest = change[:, group].amax(1).view(pixels, colors, pixels)
            seen[:, colour] |= (largest > 1e-13).permute(2, 0, 1)
    return seen


def faults(seen: Tensor, allowed: Callable[[int, int, int, int], bool], width: int) -> Faults:
    """`allowed(rows up, columns right, colour out, colour in)` says whether a pixel is to be seen.

    Rows are counted upwards from the output to the input, columns to the right.
    """
    pixels, colors_out, _, colors_in = seen.shape
    expected = torch.zeros_like(seen)
    for out in range(pixels):
        for source in range(pixels):
            up, right = out // width - source // width, source % width - out % width
            for k in range(colors_out):
                for j in range(colors_in):
                    expected[out, k, source, j] = allowed(up, right, k, j)
    return Faults(int((seen & ~expected).sum()), int((~seen & expected).sum()))


def raster(up: int, right: int, colour_out: int = 0, colour_in: int = 0) -> bool:
    """All earlier pixels, and of the same one the colours up to the own (mask B)."""
    return up > 0 or (up == 0 and (right < 0 or (right == 0 and colour_in <= colour_out)))


def left_quadrant(up: int, right: int, colour_out: int = 0, colour_in: int = 0) -> bool:
    """What a diagonal LSTM from left to right sees."""
    return up >= 0 and right <= 0 and raster(up, right, colour_out, colour_in)


def right_quadrant(up: int, right: int, colour_out: int = 0, colour_in: int = 0) -> bool:
    """What one from right to left sees."""
    return up >= 0 and right >= 0 and (up + right > 0 or colour_in <= colour_out)


def triangle(up: int, right: int, colour_out: int = 0, colour_in: int = 0) -> bool:
    """What a row LSTM with a 1 x 3 input-to-state convolution (mask B) sees."""
    return up >= 0 and -up - 1 <= right <= up and raster(up, right, colour_out, colour_in)
