"""Models to sample from in tests, and the parameters of their draws when an image is given."""

from __future__ import annotations

import torch
from enumeration import randomise
from torch import Tensor
from toy_pixelcnn_pp import ToyPixelCNNPP

from genfast.models import GatedPixelCNN
from genfast.models.autoregressive import AutoregressiveModel
from genfast.sampling import (
    PixelSampler,
    Program,
    ProgramBuilder,
)
from genfast.sampling.lowering import convolution

# image shape, levels, channels, layers, classes; channels that fill no vector, sizes of 1, odd sizes
GATED = [
    ((1, 6, 7), 2, 9, 3, 0),
    ((1, 5, 5), 256, 20, 2, 0),
    ((3, 4, 5), 5, 14, 3, 3),
    ((2, 7, 1), 3, 7, 2, 0),
    ((1, 1, 9), 2, 8, 1, 2),
    ((3, 1, 1), 4, 5, 2, 0),
]
LEVELLED = [(1, 8, 8), (3, 7, 5), (1, 5, 9), (3, 6, 4), (1, 1, 3), (3, 1, 1)]


def gated(image_shape, levels, channels=8, layers=2, num_classes=0) -> GatedPixelCNN:
    model = GatedPixelCNN(image_shape, levels, channels, layers, num_classes)
    randomise(model)
    return model


def toy(image_shape, levels, **keywords) -> ToyPixelCNNPP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyPixelCNNPP(image_shape, levels, **keywords)


def labels_of(model: AutoregressiveModel, n: int) -> Tensor | None:
    return torch.arange(n) % model.num_classes if model.num_classes else None


def draw_levels(levels: int, *shape: int) -> Tensor:
    """The same in every run."""
    return torch.randint(levels, shape, generator=torch.Generator().manual_seed(1))


def teacher_forced(program: Program, x: Tensor, inputs: dict[str, Tensor], engine: str) -> Tensor:
    """The parameters of all draws when the image is given."""
    dtype = program.weights[0].dtype
    outputs = torch.full((len(x), program.outputs, *x.shape[2:]), float("nan"), dtype=dtype)
    kept = x.clone()
    sampler = PixelSampler(program, engine)
    sampler.fill(kept, torch.ones_like(x, dtype=torch.bool), inputs=inputs, outputs=outputs)
    assert torch.equal(kept, x)
    return outputs


def map_program(levels: int = 4) -> Program:
    """A program with a spatial condition, looked up beyond its edges, and a residual after a gate."""
    builder = ProgramBuilder((1, 5, 4), levels)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    plane = builder.map("plane", 3)
    above = convolution(builder, "above", builder.image, random(6, 1, 1, 3), random(6), above=1, left=1)
    seen = convolution(builder, "seen", plane, random(12, 3, 2, 3), None, above=1, left=1)
    left = convolution(
        builder, "left", builder.image, random(12, 1, 1, 1), random(12),
        left=1, before=[seen], after=[above], function="gate",
    )  # fmt: skip
    builder.draw(builder.compute("logits", [left], random(levels, 6), random(levels)), "categorical")
    return builder.build()
