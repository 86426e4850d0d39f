"""Autoregressive models, forward and training step, against their plain PyTorch twins of equal weights.

The training step is loss and gradients of every parameter, without the optimiser, which is the
same for both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast import models, reference
from genfast.benchmarks.cases import Case, Inputs, Side

BATCH = 16
BINARY = ((1, 28, 28), 2)
PixelLoss = Callable[[nn.Module, Tensor], Tensor]


def bernoulli_bits(model: nn.Module, x: Tensor) -> Tensor:
    """Mean bits per pixel of binary images, from the twin's logits (0, logit)."""
    logit = model(x)[:, :, 1]
    return F.binary_cross_entropy_with_logits(logit, x.to(logit.dtype)) / math.log(2)


def mixture_bits(model: nn.Module, x: Tensor) -> Tensor:
    """Mean bits per pixel and colour of 256 levels, from the twin's mixture of logistics."""
    parameters = model(x)
    values = x.to(parameters.dtype) * (2 / 255) - 1
    nats = reference.logistic_mixture_log_prob(parameters, values)
    return nats.mean() / (-math.log(2) * x.shape[1])


def training_case(
    op: str,
    variant: str,
    plain: nn.Module,
    fast: models.autoregressive.AutoregressiveModel,
    plain_loss: PixelLoss,
    device: str,
    quick: bool,
) -> Case:
    """Loss of a model and of its twin on random images; `fast` gets the twin's weights."""
    exact = copy.deepcopy(plain).double()
    fast.load_state_dict(plain.state_dict())
    shape = (BATCH, *fast.image_shape)

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randint(fast.levels, shape, generator=generator).to(device),)

    def side(model: nn.Module, loss: Callable[[Tensor], Tensor]) -> Side:
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Side(loss, leaves=tuple(p for _, p in sorted(model.named_parameters())))

    return Case(
        op=op,
        variant=variant,
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides={
            "eager": side(plain, partial(plain_loss, plain)),
            "genfast": side(fast, fast.loss),
        },
        reference=side(exact, partial(plain_loss, exact)),
        compile=not quick,
        slack_ulps=8.0,  # the loss is one number
        headline=True,
    )


def gated_pixelcnn(device: str, quick: bool) -> Iterator[Case]:
    size: dict[str, Any] = {"channels": 64, "layers": 8}
    torch.manual_seed(0)
    plain = reference.GatedPixelCNN(*BINARY, **size)
    fast = models.GatedPixelCNN(*BINARY, **size)
    variant = "8 layers x 64 ch"
    yield training_case("gated_pixelcnn", variant, plain, fast, bernoulli_bits, device, quick)


def pixelcnn(device: str, quick: bool) -> Iterator[Case]:
    size: dict[str, Any] = {"channels": 64, "layers": 7}
    torch.manual_seed(0)
    plain = reference.PixelCNN(*BINARY, **size)
    fast = models.PixelCNN(*BINARY, **size)
    yield training_case("pixelcnn", "7 blocks x 64 ch", plain, fast, bernoulli_bits, device, quick)


def pixelcnn_pp(device: str, quick: bool) -> Iterator[Case]:
    """A fifth of the published width and depth, and no dropout, whose draws would differ."""
    size: dict[str, Any] = {"filters": 32, "resnets": 1, "dropout": 0.0}
    torch.manual_seed(0)
    plain = reference.PixelCNNPP((3, 32, 32), 256, **size)
    fast = models.PixelCNNPP((3, 32, 32), 256, **size)
    variant = "1 resnet x 32 filters, 3 resolutions"
    yield training_case("pixelcnn_pp", variant, plain, fast, mixture_bits, device, quick)


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "gated_pixelcnn": gated_pixelcnn,
    "pixelcnn": pixelcnn,
    "pixelcnn_pp": pixelcnn_pp,
}
