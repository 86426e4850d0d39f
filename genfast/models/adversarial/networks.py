"""The pair of networks of a GAN of images, dense or convolutional, with or without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from genfast.models.adversarial.dcgan import ConvDiscriminator, ConvGenerator, check_convolutional
from genfast.models.adversarial.gan import PerceptronDiscriminator, PerceptronGenerator

Network = Literal["dense", "convolutional"]

#: Help texts of the settings that choose the networks.
NETWORK_SETTINGS = {
    "network": "dense: perceptrons of 256 units; convolutional: the networks of DCGAN",
    "width": "units of a layer if dense, else channels of the largest map",
}


def make_networks(
    network: Network,
    width: int,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    num_classes: int = 0,
    normalisation: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> tuple[nn.Module, nn.Module]:
    """A generator (N, latent_dim) -> (N, C, H, W) and a discriminator (N, C, H, W) -> (N,).

    With classes, both take labels (N,) int64 as well. `normalisation` is of the convolutional
    discriminator. Raises `ValueError` naming the argument.
    """
    if network not in ("dense", "convolutional"):
        raise ValueError(f"network must be 'dense' or 'convolutional', got {network!r}")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    channels, height, width_of_image = image_shape
    inputs = latent_dim + num_classes
    seen = (channels + 1 if num_classes else channels, height, width_of_image)
    generator: nn.Module
    discriminator: nn.Module
    if network == "dense":
        generator = PerceptronGenerator(image_shape, inputs, width, 2)
        discriminator = PerceptronDiscriminator(seen, width, 2)
    else:
        check_convolutional(image_shape, width)
        generator = ConvGenerator(image_shape, inputs, width)
        discriminator = ConvDiscriminator(seen, width, normalisation)
    if not num_classes:
        return generator, discriminator
    return LabelledGenerator(generator, num_classes), LabelledDiscriminator(
        discriminator, num_classes, (height, width_of_image)
    )


class LabelledGenerator(nn.Module):
    """A generator that sees its label beside the noise, as a one-hot vector.

    Args:
        network: (N, latent_dim + num_classes) -> images.
        num_classes: K.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(labels, self.num_classes).to(z.dtype)
        images: Tensor = self.network(torch.cat([z, one_hot], 1))
        return images


class LabelledDiscriminator(nn.Module):
    """A discriminator that sees the label as one more channel, a learned picture of each class.

    Args:
        network: (N, C + 1, H, W) -> logits.
        num_classes: K.
        size: (H, W).
    """

    def __init__(self, network: nn.Module, num_classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.pictures = nn.Embedding(num_classes, size[0] * size[1])

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        picture = self.pictures(labels).view(-1, 1, *self.size).to(x.dtype)
        logits: Tensor = self.network(torch.cat([x, picture], 1))
        return logits
