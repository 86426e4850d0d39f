"""GAN: two multilayer perceptrons, a generator of images and a discriminator.

Source: Goodfellow et al., "Generative Adversarial Networks" (2014), sections 3 and 5.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from genfast.models.adversarial.losses import AdversarialLoss
from genfast.models.adversarial.noise_gan import NOISE_SETTINGS, NoiseGAN, Prior


class PerceptronGenerator(nn.Sequential):
    """z (N, latent_dim) -> images (N, C, H, W) in (-1, 1): ReLU layers, then tanh.

    Args:
        image_shape: (C, H, W).
        latent_dim: numbers in z.
        hidden: units of a layer.
        layers: hidden layers.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, hidden: int, layers: int
    ) -> None:
        channels, height, width = image_shape
        widths = [latent_dim, *[hidden] * layers]
        inner = [
            module
            for before, after in pairwise(widths)
            for module in (nn.Linear(before, after), nn.ReLU())
        ]
        last = nn.Linear(widths[-1], channels * height * width)
        super().__init__(*inner, last, nn.Tanh(), nn.Unflatten(1, image_shape))


class PerceptronDiscriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N,): leaky ReLU layers. No sigmoid: the losses take logits.

    Args:
        image_shape: (C, H, W).
        hidden: units of a layer.
        layers: hidden layers.
    """

    def __init__(self, image_shape: tuple[int, int, int], hidden: int, layers: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        widths = [channels * height * width, *[hidden] * layers]
        inner: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            inner += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*inner, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.squeeze(1)


class GAN(NoiseGAN):
    """The first GAN. Its discriminator has leaky ReLUs where the paper's has maxout and dropout.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        hidden: units of a layer, in both networks.
        layers: hidden layers of each.
        latent_dim: numbers in a noise vector.
        prior: law of the noise.
        loss: "minimax" as in equation 1, or "non-saturating".
        discriminator_steps: k of algorithm 1.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.GAN((1, 8, 8), levels=17, hidden=32)
    >>> x = torch.rand(5, 1, 8, 8)
    >>> model.discriminator_loss(x).shape, model.generator_loss(x).shape
    (torch.Size([]), torch.Size([]))
    >>> model.sample(3).shape
    torch.Size([3, 1, 8, 8])
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "hidden": "units of a layer, in both networks",
        "layers": "hidden layers of each network",
        **NOISE_SETTINGS,
    }
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {"lr": 2e-4, "beta1": 0.5}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        hidden: int = 256,
        layers: int = 2,
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
        for name, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.config = self._configured(hidden=hidden, layers=layers)
        self.generator = PerceptronGenerator(self.image_shape, latent_dim, hidden, layers)
        self.discriminator = PerceptronDiscriminator(self.image_shape, hidden, layers)
