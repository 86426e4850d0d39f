"""Drawing images: where a draw starts from, the naive way to do it, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from genfast.models.autoregressive.checks import check_levels
from genfast.models.autoregressive.heads import Head
from genfast.sampling import uniforms

#: The network on the rows so far: (N, C, h, W) levels to (N, head.outputs, h, W).
Outputs = Callable[[Tensor], Tensor]


def canvas(
    shape: tuple[int, int, int, int],
    head: Head,
    given: Tensor | None,
    mask: Tensor | None,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The images to start from and which of their values are final, each of `shape`."""
    if (given is None) != (mask is None):
        raise ValueError("given and mask go together: pass both or neither")
    if given is None or mask is None:
        known = torch.zeros(shape, dtype=torch.bool, device=device)
        return torch.zeros(shape, dtype=torch.int64, device=device), known
    if tuple(given.shape) != shape:
        raise ValueError(f"given must have shape {shape}, got {tuple(given.shape)}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {mask.dtype}")
    try:
        known = mask.to(device).expand(shape)
    except RuntimeError:
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to {shape}") from None
    if len(head.passes) < shape[1] and bool((known != known[:, :1]).any()):
        raise ValueError("mask must keep all colours of a pixel or none: they are drawn as one event")
    x = torch.where(known, given.to(device), 0).contiguous()
    check_levels(x, head.levels, "given")
    return x, known


def fill_naively(
    x: Tensor,
    known: Tensor,
    head: Head,
    outputs: Outputs,
    *,
    seed: int,
    start: int,
    temperature: float,
    advance: Callable[[int], object],
) -> None:
    """Draws the values of `x` that are not known, in place: `outputs` once for every pass of a pixel.

    `advance` is called with the number of pixels, of all images together, done since the last call.
    """
    height, width = x.shape[2:]
    numbers = torch.arange(start, start + len(x), device=x.device)
    for pixel in range(height * width):
        row, column = divmod(pixel, width)
        keep = known[:, :, row, column]
        uniform = uniforms(seed, numbers, pixel, head.draws)
        for colours in () if bool(keep.all()) else head.passes:
            parameters = outputs(x[:, :, : row + 1])[:, :, row, column]
            drawn = head.draw(parameters, uniform, colours, temperature)
            old = x[:, colours, row, column]
            x[:, colours, row, column] = torch.where(keep[:, colours], old, drawn)
        advance(len(x))


@contextmanager
def progress_bar(pixels: int, wanted: bool) -> Iterator[Callable[[int], object]]:
    """What tells how many more pixels are done."""
    if not wanted:
        yield lambda more: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(
            'progress=True needs tqdm: pip install "genfast[train]", or pass progress=False'
        ) from None
    with tqdm(total=pixels, desc="sampling", unit="pixel") as bar:
        yield bar.update
