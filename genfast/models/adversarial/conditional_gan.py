"""Conditional GAN: generator and discriminator are told the class.

Source: Mirza and Osindero, "Conditional Generative Adversarial Nets" (2014), equation 2: the second term
judges D(G(z|y) | y), the generated image together with the class it was asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar

from genfast.models.adversarial.losses import AdversarialLoss
from genfast.models.adversarial.networks import NETWORK_SETTINGS, Network, make_networks
from genfast.models.adversarial.noise_gan import NOISE_SETTINGS, NoiseGAN, Prior


class ConditionalGAN(NoiseGAN):
    """A GAN of one class or another, as asked.

    The generator sees a one-hot label beside the noise, the discriminator a learned picture of the class
    as one more channel.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        num_classes: at least 2.
        network: "dense" as in the paper, or "convolutional" as DCGAN.
        width: units of a layer if dense, else channels of the largest map.
        latent_dim: numbers in a noise vector.
        prior: law of the noise.
        loss: the game.
        discriminator_steps: for one of the generator.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.ConditionalGAN((1, 8, 8), levels=17, num_classes=10, width=32)
    >>> x, labels = torch.rand(5, 1, 8, 8), torch.tensor([3, 1, 4, 1, 5])
    >>> model.discriminator_loss(x, labels).shape
    torch.Size([])
    >>> model.sample(4, labels=7).shape
    torch.Size([4, 1, 8, 8])
    """

    SETTINGS: ClassVar[dict[str, str]] = {**NETWORK_SETTINGS, **NOISE_SETTINGS}
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {"lr": 2e-4, "beta1": 0.5, "conditional": True}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        num_classes: int,
        network: Network = "dense",
        width: int = 256,
        latent_dim: int = 100,
        prior: Prior = "normal",
        loss: AdversarialLoss = "non-saturating",
        discriminator_steps: int = 1,
    ) -> None:
        super().__init__(
            image_shape,
            levels,
            num_classes,
            latent_dim=latent_dim,
            prior=prior,
            loss=loss,
            discriminator_steps=discriminator_steps,
        )
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2 (see conditional), got {num_classes}")
        self.config = self._configured(num_classes=num_classes, network=network, width=width)
        self.generator, self.discriminator = make_networks(
            network, width, self.image_shape, latent_dim, num_classes
        )
