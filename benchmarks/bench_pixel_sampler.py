"""Sampling the Gated PixelCNN, against naive sampling and incremental sampling in plain PyTorch.

What is compared first are the logits of every pixel of given images; what is timed is drawing images.
Naive sampling takes as many forward passes of the plain twin as an image has pixels; on images of full
size one is timed and counted that often, which leaves out all that a real sampler does besides. The case
on a small image really samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genfast import models, reference
from genfast.benchmarks.cases import FORWARD, Case, Inputs, Side
from genfast.benchmarks.plain_incremental import PlainIncrementalSampler
from genfast.sampling import PixelSampler, categorical, uniforms

LEVELS = 2
INTERPRETER, PLAIN = "interpreter", "plain incremental"


def pixel_sampler(device: str, quick: bool) -> Iterator[Case]:
    if device != "cpu":  # the native engine is for CPUs
        return
    yield _case((1, 1, 8, 8), layers=8, channels=64, counted=False)
    if quick:
        return
    full: dict[str, Any] = {"layers": 8, "channels": 64, "counted": True}
    yield _case((1, 1, 28, 28), **full, reach={"eager": 600, PLAIN: 12})
    yield _case((16, 1, 28, 28), **full, reach={"eager": 1200, PLAIN: 5})
    yield _case((64, 1, 28, 28), **full)
    yield _case((1, 1, 28, 28), layers=10, channels=128, counted=True, reach={"eager": 300})
    yield _case((16, 1, 28, 28), layers=10, channels=128, counted=True, reach={"eager": 300})


def _case(
    shape: tuple[int, int, int, int],
    layers: int,
    channels: int,
    counted: bool,
    reach: dict[str, float] | None = None,
) -> Case:
    n, _, height, width = shape
    size: dict[str, Any] = {"levels": LEVELS, "channels": channels, "layers": layers}
    torch.manual_seed(0)
    plain = reference.GatedPixelCNN(shape[1:], **size)
    exact = copy.deepcopy(plain).double()
    fast = models.GatedPixelCNN(shape[1:], **size)
    fast.load_state_dict(plain.state_dict())
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    incremental = PlainIncrementalSampler(plain)
    with torch.no_grad():
        program = fast.pixel_program()
    native, interpreter = (PixelSampler(program, engine) for engine in ("native", "interpreter"))

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randint(LEVELS, shape, generator=generator),)

    def given(sampler: PixelSampler) -> Callable[[Tensor], Tensor]:
        def logits(x: Tensor) -> Tensor:
            outputs = torch.empty(n, 1, height, width)
            sampler.fill(x.clone(), torch.ones_like(x, dtype=torch.bool), outputs=outputs)
            return outputs

        return logits

    def sampling(sampler: PixelSampler) -> Callable[[Tensor], Tensor]:
        def sample(x: Tensor) -> Tensor:
            drawn = torch.zeros_like(x)
            sampler.fill(drawn, torch.zeros_like(x, dtype=torch.bool))
            return drawn

        return sample

    def naive(x: Tensor) -> Tensor:
        return _sample_naively(plain, x)

    pixels = height * width
    eager = Side(lambda x: plain(x)[:, 0, 1:], **({"repeat": pixels} if counted else {"timed": naive}))
    return Case(
        op="pixel_sampler",
        variant=f"{layers} layers x {channels} ch",
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides={
            "eager": eager,
            INTERPRETER: Side(given(interpreter), timed=sampling(interpreter)),
            PLAIN: Side(
                lambda x: incremental.run((n, height, width), x[:, 0].float())[1][:, None],
                timed=lambda x: incremental.run((n, height, width), None)[0],
            ),
            "genfast": Side(given(native), timed=lambda x: fast.sample(n)),
        },
        reference=Side(lambda x: exact(x)[:, 0, 1:]),
        directions=(FORWARD,),
        compile=False,  # of one forward pass: see gated_pixelcnn
        reach={FORWARD: reach} if reach else {},
        headline=True,
    )


def _sample_naively(model: reference.GatedPixelCNN, like: Tensor, seed: int = 0) -> Tensor:
    """A forward pass of the rows so far for every pixel."""
    x, (n, _, height, width) = torch.zeros_like(like), like.shape
    for pixel in range(height * width):
        row, column = divmod(pixel, width)
        logits = model(x[:, :, : row + 1])[:, 0, :, row, column]
        x[:, 0, row, column] = categorical(logits, uniforms(seed, torch.arange(n), pixel, 1)[:, 0])
    return x


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"pixel_sampler": pixel_sampler}
