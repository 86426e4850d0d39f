"""The networks of latent-variable models: gated dense layers, gated convolutions, plain linear maps."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedDense(nn.Module):
    """A linear layer whose outputs are gated: (W x + b) * sigmoid(V x + c).

    Both maps are one product, W first. Weights begin as N(0, 2 / inputs) (He et al. 2015), as in the
    published VampPrior and Exemplar VAE.

    Args:
        inputs, outputs: widths.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.both = he_linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.both(x), 1)


class GatedConv2d(nn.Module):
    """A same-padded convolution whose outputs are gated: (W * x + b) * sigmoid(V * x + c).

    Args:
        inputs, outputs: channels.
        kernel: its odd size.
        stride: 1, or 2 to halve the map (rounding up).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.both = nn.Conv2d(inputs, 2 * outputs, kernel, stride, padding=kernel // 2)
        nn.init.normal_(self.both.weight, std=math.sqrt(2 / (inputs * kernel * kernel)))

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.both(x), 1)


class _UpsampleTo(nn.Module):
    """The nearest pixel, to a fixed size: maps of odd size come back as they were."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size)


def he_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with weights from N(0, 2 / inputs); biases as torch draws them."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
    return layer


def dense_stack(inputs: int, hidden: int, layers: int) -> tuple[nn.Sequential, int]:
    """`layers` gated dense layers -> them and their output's width; with none, the identity."""
    widths = [inputs, *[hidden] * layers]
    return nn.Sequential(*(GatedDense(a, b) for a, b in pairwise(widths))), widths[-1]


def conv_encoder(image_shape: tuple[int, int, int], channels: int) -> tuple[nn.Sequential, int]:
    """Gated convolutions to a quarter of the size -> them and the width of their flat output.

    Kernels 7, 3, 5, 3, 3, the second and the fourth of stride 2, as in the published ConvHVAE
    (Tomczak and Welling 2018), which has 32 `channels`.
    """
    colours, height, width = image_shape
    last = max(1, channels // 5)
    body = nn.Sequential(
        GatedConv2d(colours, channels, 7),
        GatedConv2d(channels, channels, 3, stride=2),
        GatedConv2d(channels, 2 * channels, 5),
        GatedConv2d(2 * channels, 2 * channels, 3, stride=2),
        GatedConv2d(2 * channels, last, 3),
        nn.Flatten(),
    )
    return body, last * _halved(_halved(height)) * _halved(_halved(width))


def conv_decoder(
    latent: int, image_shape: tuple[int, int, int], channels: int, hidden: int, outputs: int
) -> nn.Sequential:
    """From codes to `outputs` maps of the image's size: dense, then twice up between convolutions."""
    _, height, width = image_shape
    half = _halved(height), _halved(width)
    quarter = _halved(half[0]), _halved(half[1])
    wide = 2 * channels
    return nn.Sequential(
        GatedDense(latent, hidden),
        GatedDense(hidden, wide * quarter[0] * quarter[1]),
        nn.Unflatten(1, (wide, *quarter)),
        GatedConv2d(wide, wide, 3),
        _UpsampleTo(half),
        GatedConv2d(wide, channels, 3),
        _UpsampleTo((height, width)),
        GatedConv2d(channels, channels, 3),
        nn.Conv2d(channels, outputs, 1),
    )


def encoder_body(
    image_shape: tuple[int, int, int], network: str, hidden: int, layers: int, channels: int
) -> tuple[nn.Sequential, int]:
    """What comes before the heads of an encoder, from images (N,C,H,W) -> it and its width."""
    if network == "conv":
        return conv_encoder(image_shape, channels)
    body, width = dense_stack(math.prod(image_shape), hidden, layers)
    return nn.Sequential(nn.Flatten(), *body), width


def decoder(
    latent: int,
    image_shape: tuple[int, int, int],
    outputs: int,
    network: str,
    hidden: int,
    layers: int,
    channels: int,
) -> nn.Sequential:
    """From codes (N, latent) to (N, outputs, H, W)."""
    if network == "conv":
        return conv_decoder(latent, image_shape, channels, hidden, outputs)
    _, height, width = image_shape
    body, size = dense_stack(latent, hidden, layers)
    last = he_linear(size, outputs * height * width)
    return nn.Sequential(*body, last, nn.Unflatten(1, (outputs, height, width)))


def check_sizes(image_shape: tuple[int, int, int], **sizes: int) -> tuple[int, int, int]:
    """`image_shape` as (C, H, W). Raises `ValueError` for it or a size that is out of range.

    `layers` may be 0, all other `sizes` are at least 1.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(
            f"image_shape must be (C, H, W) with sizes of at least 1, got {tuple(image_shape)}"
        )
    for name, value in sizes.items():
        least = 0 if name == "layers" else 1
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    colours, height, width = image_shape
    return colours, height, width


def check_images(x: Tensor, image_shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """`x` in `dtype`. Raises `TypeError` or `ValueError` if it is no batch of float images."""
    if not x.is_floating_point():
        raise TypeError(f"x must hold floats in [0, 1], got {x.dtype}")
    if x.ndim != 4 or tuple(x.shape[1:]) != image_shape:
        raise ValueError(f"x must have shape (N, *{image_shape}), got {tuple(x.shape)}")
    return x.to(dtype)


def _halved(size: int) -> int:
    return (size + 1) // 2
