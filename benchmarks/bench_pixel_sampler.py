"""Sampling, against naive sampling and (the Gated PixelCNN) incremental sampling in plain PyTorch.

What is compared first are the parameters of every draw when the images are given; what is timed is
drawing images. Naive sampling takes as many forward passes of the plain twin as an image has pixels; on
images of full size the best of some passes is counted that often, which leaves out all that a real
sampler does besides. The case on a small image really samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genfast import models, reference
from genfast.benchmarks import bench_pixel_sampler_cuda
from genfast.benchmarks.bench_pixel_sampler_cuda import PLAIN, given_parameters
from genfast.benchmarks.cases import FORWARD, Case, Inputs, Side
from genfast.benchmarks.plain_incremental import PlainIncrementalSampler
from genfast.models.autoregressive import AutoregressiveModel
from genfast.models.autoregressive.pixel_rnn import Variant
from genfast.sampling import PixelSampler, categorical, uniforms

INTERPRETER = "interpreter"
BINARY = ((1, 28, 28), 2)


def pixel_sampler(device: str, quick: bool) -> Iterator[Case]:
    if device != "cpu":
        yield from bench_pixel_sampler_cuda.cases(device, quick)
        return
    yield _gated(1, 8, 64, image_shape=(1, 8, 8), counted=False)
    if quick:
        return
    yield _gated(1, 8, 64, reach={"eager": 600, PLAIN: 12})
    yield _gated(16, 8, 64, reach={"eager": 1200, PLAIN: 5})
    yield _gated(64, 8, 64)
    yield _gated(1, 10, 128, reach={"eager": 300})
    yield _gated(16, 10, 128, reach={"eager": 300})
    yield _pixelcnn(1)
    yield _pixelcnn(16)
    yield _pixelcnn_pp(1, reach={"eager": 300})
    yield _pixel_rnn(1, "row", reach={"eager": 100})
    yield _pixel_rnn(1, "diagonal", reach={"eager": 100})


def _gated(
    n: int,
    layers: int,
    channels: int,
    *,
    image_shape: tuple[int, int, int] = BINARY[0],
    counted: bool = True,
    reach: dict[str, float] | None = None,
) -> Case:
    size: dict[str, Any] = {"channels": channels, "layers": layers}
    torch.manual_seed(0)
    plain = reference.GatedPixelCNN(image_shape, 2, **size)
    fast = models.GatedPixelCNN(image_shape, 2, **size)
    fast.load_state_dict(plain.state_dict())
    incremental = PlainIncrementalSampler(plain)
    height, width = image_shape[1:]
    others = {
        PLAIN: Side(
            lambda x: incremental.run((n, height, width), x[:, 0].float())[1][:, None],
            timed=lambda x: incremental.run((n, height, width), None)[0],
        )
    }
    if not counted:
        with torch.no_grad():
            interpreter = PixelSampler(fast.pixel_program(), "interpreter")
        others[INTERPRETER] = Side(given_parameters(interpreter), timed=_drawing(interpreter))
    name = f"gated, {layers} layers x {channels} ch"
    return _case(name, n, plain, fast, others, _logit, counted=counted, reach=reach)


def _pixelcnn(n: int) -> Case:
    torch.manual_seed(0)
    plain, fast = reference.PixelCNN(*BINARY), models.PixelCNN(*BINARY)
    fast.load_state_dict(plain.state_dict())
    return _case("pixelcnn, 7 blocks x 64 ch", n, plain, fast, {}, _logit)


def _pixelcnn_pp(n: int, reach: dict[str, float]) -> Case:
    """As published. A forward pass gives all colours of a pixel."""
    size: dict[str, Any] = {"image_shape": (3, 32, 32), "levels": 256, "dropout": 0.0}
    torch.manual_seed(0)
    plain, fast = reference.PixelCNNPP(**size), models.PixelCNNPP(**size)
    fast.load_state_dict(plain.state_dict())
    return _case("pixelcnn++, 160 filters", n, plain, fast, {}, lambda outputs: outputs, reach=reach)


def _pixel_rnn(n: int, variant: Variant, reach: dict[str, float]) -> Case:
    """The forward pass is genfast's own: the plain twin's scans are loops over pixels."""
    torch.manual_seed(0)
    plain, fast = reference.PixelRNN(*BINARY, variant), models.PixelRNN(*BINARY, variant)
    fast.load_state_dict(plain.state_dict())
    name = f"pixelrnn {variant}, 7 layers x 64 units"
    return _case(name, n, plain, fast, {}, _logit, naive_by=copy.deepcopy(fast), reach=reach)


def _logit(outputs: Tensor) -> Tensor:
    """Of the second of two levels; that of the first is 0."""
    return outputs[:, 0, 1:]


def _case(
    name: str,
    n: int,
    plain: nn.Module,
    fast: AutoregressiveModel,
    others: dict[str, Side],
    drawn_from: Callable[[Tensor], Tensor],
    *,
    counted: bool = True,
    naive_by: nn.Module | None = None,
    reach: dict[str, float] | None = None,
) -> Case:
    """`fast` has the weights of `plain`, its twin, before its program is made.

    drawn_from: what a program's draws read of the twin's outputs. counted: see above.
    naive_by: whose forward passes naive sampling takes; the plain twin's unless given.
    """
    exact = copy.deepcopy(plain).double()
    if naive_by is not None:
        plain = naive_by
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        native = PixelSampler(fast.pixel_program(), "native")
    shape = (n, *fast.image_shape)
    pixels = shape[2] * shape[3]

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randint(fast.levels, shape, generator=generator),)

    def forward(x: Tensor) -> Tensor:
        return drawn_from(plain(x))

    def naive(x: Tensor) -> Tensor:
        return _sample_naively(plain, x)

    eager = Side(forward, repeat=pixels) if counted else Side(forward, timed=naive)
    return Case(
        op="pixel_sampler",
        variant=f"{name}, eager = {_naive(pixels, counted, naive_by is not None)}",
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides={
            "eager": eager,
            **others,
            "genfast": Side(given_parameters(native), timed=lambda x: fast.sample(n)),
        },
        reference=Side(lambda x: drawn_from(exact(x))),
        directions=(FORWARD,),
        compile=False,  # of one forward pass: see gated_pixelcnn
        reach={FORWARD: reach} if reach else {},
        headline=True,
    )


def _naive(pixels: int, counted: bool, by_genfast: bool) -> str:
    """What the side "eager" is, in words."""
    if not counted:
        return "naive sampling"
    return f"{pixels} x {'the best forward of genfast' if by_genfast else 'its best forward'}"


def _drawing(sampler: PixelSampler) -> Callable[[Tensor], Tensor]:
    def draw(x: Tensor) -> Tensor:
        drawn = torch.zeros_like(x)
        sampler.fill(drawn, torch.zeros_like(x, dtype=torch.bool))
        return drawn

    return draw


def _sample_naively(model: nn.Module, like: Tensor, seed: int = 0) -> Tensor:
    """A forward pass of the rows so far for every pixel."""
    x, (n, _, height, width) = torch.zeros_like(like), like.shape
    for pixel in range(height * width):
        row, column = divmod(pixel, width)
        logits = model(x[:, :, : row + 1])[:, 0, :, row, column]
        x[:, 0, row, column] = categorical(logits, uniforms(seed, torch.arange(n), pixel, 1)[:, 0])
    return x


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"pixel_sampler": pixel_sampler}
