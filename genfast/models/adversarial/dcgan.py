"""DCGAN: a generator of transposed convolutions against a strided convolutional discriminator.

Source: Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks" (2016), section 3 and figure 1; layer table and settings as in its PyTorch version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from genfast.models.adversarial.base import normal_initialisation
from genfast.models.adversarial.losses import AdversarialLoss
from genfast.models.adversarial.noise_gan import NOISE_SETTINGS, NoiseGAN, Prior


def doublings(height: int, width: int) -> tuple[int, tuple[int, int]]:
    """How often a first map must be doubled to give height x width, and its size, at least 4 high.

    >>> doublings(64, 64), doublings(28, 28)
    ((4, (4, 4)), (2, (7, 7)))
    """
    times = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width, times = height // 2, width // 2, times + 1
    return times, (height, width)


class ConvGenerator(nn.Module):
    """z (N, inputs) -> images (N, C, H, W) in (-1, 1).

    A transposed convolution lays z out as the first map, then 4x4 ones of stride 2 double it; batch
    normalisation and ReLU after each but the last, which ends in tanh. No biases. At 64x64 and width 64
    the maps have 512, 256, 128, 64 and C channels.

    Args:
        image_shape: (C, H, W); height and width even at least once.
        inputs: numbers in z.
        width: channels of the last map before the image.
    """

    def __init__(self, image_shape: tuple[int, int, int], inputs: int, width: int) -> None:
        super().__init__()
        channels, (times, first) = image_shape[0], doublings(*image_shape[1:])
        maps = [width * 2**power for power in reversed(range(times))]
        layers: list[nn.Module] = [
            nn.Unflatten(1, (inputs, 1, 1)),
            nn.ConvTranspose2d(inputs, maps[0], first, bias=False),
        ]
        for before, after in zip(maps, [*maps[1:], channels], strict=True):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(),
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
            ]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.apply(normal_initialisation)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


class ConvEncoder(nn.Module):
    """Images (N, C, H, W) -> (N, outputs): the generator's mirror, with leaky ReLUs of slope 0.2.

    The first convolution has no normalisation.

    Args:
        image_shape: (C, H, W); height and width even at least once.
        outputs: numbers for each image.
        width: channels of the first map.
        normalisation: makes the layer after each convolution but the first, from its channels.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        outputs: int,
        width: int,
        normalisation: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        channels, (times, last) = image_shape[0], doublings(*image_shape[1:])
        maps = [width * 2**power for power in range(times)]
        layers: list[nn.Module] = []
        for before, after in zip([channels, *maps], maps, strict=False):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False))
            if layers[1:]:
                layers.append(normalisation(after))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(maps[-1], outputs, last, bias=False))
        self.apply(normal_initialisation)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs.flatten(1)


class ConvDiscriminator(ConvEncoder):
    """Images (N, C, H, W) -> logits (N,). No sigmoid at the end: the losses take logits.

    Args:
        image_shape, width, normalisation: as of `ConvEncoder`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int,
        normalisation: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(image_shape, 1, width, normalisation)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(1)


class DCGAN(NoiseGAN):
    """The deep convolutional GAN, for images whose sides are even: 8, 28, 32, 64, ...

    A side is doubled from 4, or from the smallest number of at least 4 that gives it: 28 from 7.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        width: channels of the largest map of each network; each smaller map has twice as many.
        latent_dim: numbers in a noise vector.
        prior: law of the noise; the paper has "uniform", its PyTorch version "normal".
        loss: the game; the paper's is "non-saturating".
        discriminator_steps: for one of the generator.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.DCGAN((3, 32, 32), levels=256, width=8)
    >>> model.discriminator_loss(torch.rand(4, 3, 32, 32)).shape
    torch.Size([])
    >>> torch.allclose(model.sample(3)[2:], model.sample(1, start=2), atol=1e-5)
    True
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "width": "channels of the largest map of each network",
        **NOISE_SETTINGS,
    }
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {"lr": 2e-4, "beta1": 0.5, "batch_size": 64}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        width: int = 64,
        latent_dim: int = 100,
        prior: Prior = "normal",
        loss: AdversarialLoss = "non-saturating",
        discriminator_steps: int = 1,
    ) -> None:
        super().__init__(
            image_shape,
            levels,
            latent_dim=latent_dim,
            prior=prior,
            loss=loss,
            discriminator_steps=discriminator_steps,
        )
        check_convolutional(self.image_shape, width)
        self.config = self._configured(width=width)
        self.generator = ConvGenerator(self.image_shape, latent_dim, width)
        self.discriminator = ConvDiscriminator(self.image_shape, width)


def check_convolutional(image_shape: tuple[int, int, int], width: int) -> None:
    """Raises `ValueError` for images that no 4x4 convolution of stride 2 halves, and for width 0."""
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if doublings(*image_shape[1:])[0] == 0:
        raise ValueError(
            f"image_shape must have even sides of at least 8, got {image_shape}: see image_size and crop"
        )
