"""Sampling on a GPU: nobody ships a cached sampler for these models, so naive sampling is the peer.

What is compared are the parameters of every draw when the images are given, of the first images; what is
timed is drawing all of them. Naive sampling is as many forward passes of the plain twin as an image has
pixels, of which the best of some is counted that often.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genfast import models, reference
from genfast.benchmarks.cases import FORWARD, Bound, Case, Inputs, Side
from genfast.benchmarks.plain_incremental import PlainIncrementalSampler
from genfast.benchmarks.rows import COPY
from genfast.models.autoregressive import AutoregressiveModel
from genfast.sampling import PixelSampler

PLAIN = "plain incremental"
# Images whose parameters are compared, and whose forward pass naive sampling is counted by.
FIRST = 64
FP32 = Bound(COPY, 0.5, "the multiplications of one forward pass at the measured fp32 rate", "fma")


@dataclass(frozen=True)
class Twins:
    """A model and its plain twin, of equal weights; `drawn_from` is what draws read of the twin's
    outputs.
    """

    name: str
    plain: nn.Module
    fast: AutoregressiveModel
    drawn_from: Callable[[Tensor], Tensor]


def cases(device: str, quick: bool) -> Iterator[Case]:
    """Published sizes; a time wanted is that for so many images a second."""
    yield _case(_gated(8, 64), 16, device, incremental=True)
    if quick:
        return
    wide = _gated(15, 128)
    yield _case(wide, 16, device, wanted=60e3, incremental=True)
    yield _case(wide, 512, device, wanted=512 / 20_000 * 1e6)
    yield _case(_pixelcnn_pp(160, 5), 1024, device, wanted=1024 / 5_000 * 1e6)
    yield _case(wide, 1, device, later=True)


def _gated(layers: int, channels: int, side: int = 28) -> Twins:
    size: dict[str, Any] = {"channels": channels, "layers": layers}
    torch.manual_seed(0)
    plain = reference.GatedPixelCNN((1, side, side), 2, **size)
    fast = models.GatedPixelCNN((1, side, side), 2, **size)
    fast.load_state_dict(plain.state_dict())
    return Twins(f"gated, {layers} layers x {channels} ch", plain, fast, lambda y: y[:, 0, 1:])


def _pixelcnn_pp(filters: int, resnets: int, side: int = 32) -> Twins:
    size: dict[str, Any] = {"filters": filters, "resnets": resnets, "dropout": 0.0}
    torch.manual_seed(0)
    plain = reference.PixelCNNPP((3, side, side), 256, **size)
    fast = models.PixelCNNPP((3, side, side), 256, **size)
    fast.load_state_dict(plain.state_dict())
    return Twins(f"pixelcnn++, {filters} filters", plain, fast, lambda y: y)


def _case(
    twins: Twins,
    n: int,
    device: str,
    *,
    wanted: float | None = None,
    incremental: bool = False,
    later: bool = False,
) -> Case:
    plain = twins.plain.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact, fast = copy.deepcopy(plain).double(), twins.fast.to(device)
    with torch.no_grad():
        sampler = PixelSampler(fast.pixel_program(), "native")
    program = sampler.program
    shape, first = (n, *fast.image_shape), min(n, FIRST)
    pixels, times = shape[2] * shape[3], -(-n // first)
    products = program.row_products * shape[2] + program.pixel_products * pixels

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randint(fast.levels, shape, generator=generator).to(device),)

    def forward(x: Tensor) -> Tensor:
        return twins.drawn_from(plain(x[:first]))

    sides = {
        "eager": Side(forward, repeat=pixels * times),
        "genfast": Side(lambda x: given_parameters(sampler)(x)[:first], timed=lambda x: fast.sample(n)),
    }
    if incremental:
        by_hand = PlainIncrementalSampler(plain)
        size = n, *shape[2:]
        sides[PLAIN] = Side(
            lambda x: by_hand.run(size, x[:, 0].float())[1][:first, None],
            timed=lambda x: by_hand.run(size, None)[0],
        )
    return Case(
        op="pixel_sampler",
        variant=f"{twins.name}, eager = {pixels * times} x its best forward of {first}",
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides=sides,
        reference=Side(lambda x: twins.drawn_from(exact(x[:first]))),
        directions=(FORWARD,),
        compile=False,  # of one forward pass: see gated_pixelcnn
        # Weights are read and images written once at least.
        bytes={FORWARD: 4 * sum(w.numel() for w in program.weights) + 8 * n * pixels},
        flops={FORWARD: 2 * n * products},
        bound={FORWARD: FP32},
        reach_us={} if wanted is None else {FORWARD: wanted},
        headline=True,
        later=later,
    )


def given_parameters(sampler: PixelSampler) -> Callable[[Tensor], Tensor]:
    """The parameters of all draws of given images."""

    def parameters(x: Tensor) -> Tensor:
        outputs = torch.empty(len(x), sampler.program.outputs, *x.shape[2:], device=x.device)
        sampler.fill(x.clone(), torch.ones_like(x, dtype=torch.bool), outputs=outputs)
        return outputs

    return parameters
