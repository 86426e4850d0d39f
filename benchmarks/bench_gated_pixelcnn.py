"""GatedPixelCNN, forward and training step, against its plain PyTorch twin with equal weights.

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
from torch import Tensor

from genfast import models, reference
from genfast.benchmarks.cases import Case, Inputs, Side

IMAGE_SHAPE, LEVELS, BATCH = (1, 28, 28), 2, 16
CHANNELS, LAYERS = 64, 8


def gated_pixelcnn(device: str, quick: bool) -> Iterator[Case]:
    size: dict[str, Any] = {"levels": LEVELS, "channels": CHANNELS, "layers": LAYERS}
    torch.manual_seed(0)
    plain = reference.GatedPixelCNN(IMAGE_SHAPE, **size)
    exact = copy.deepcopy(plain).double()
    fast = models.GatedPixelCNN(IMAGE_SHAPE, **size)
    fast.load_state_dict(plain.state_dict())

    def inputs(generator: torch.Generator) -> Inputs:
        return (torch.randint(LEVELS, (BATCH, *IMAGE_SHAPE), generator=generator).to(device),)

    def plain_loss(model: torch.nn.Module, x: Tensor) -> Tensor:
        """Bits per pixel of binary images, from the twin's logits (0, logit)."""
        logit = model(x)[:, :, 1]
        return F.binary_cross_entropy_with_logits(logit, x.to(logit.dtype)) / math.log(2)

    def side(model: torch.nn.Module, loss: Callable[[Tensor], Tensor]) -> Side:
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Side(loss, leaves=tuple(p for _, p in sorted(model.named_parameters())))

    yield Case(
        op="gated_pixelcnn",
        variant=f"{LAYERS} layers x {CHANNELS} ch",
        dtype=torch.float32,
        shape=(BATCH, *IMAGE_SHAPE),
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


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"gated_pixelcnn": gated_pixelcnn}
