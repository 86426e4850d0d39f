"""Adversarial autoencoder: an autoencoder whose codes follow a law that a discriminator enforces.

Source: Makhzani et al., "Adversarial Autoencoders" (2016), sections 2 and 2.1 and figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.adversarial import losses
from genfast.models.adversarial.base import AdversarialModel
from genfast.models.adversarial.dcgan import ConvEncoder, ConvGenerator, check_convolutional
from genfast.models.adversarial.gan import PerceptronDiscriminator, PerceptronGenerator
from genfast.models.adversarial.networks import Network
from genfast.models.adversarial.noise import numbered_noise
from genfast.sampling.modes import evaluating

Encoder = Literal["deterministic", "gaussian"]


class AdversarialAutoencoder(AdversarialModel):
    """Three phases a step: the autoencoder reconstructs; the discriminator learns to tell draws of the
    prior from codes; the encoder, as its generator, learns to fool it.

    Each phase has an optimiser of its own; the encoder's weights are in two of them.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        network: "dense" has two hidden layers each way, "convolutional" those of DCGAN (each image
            normalised by itself in the encoder).
        encoder: "deterministic" gives a code, "gaussian" mean and variance of one, reparameterised.
        latent_dim: numbers in a code.
        width: units of a dense layer; those of the discriminator, always dense.
        channels: of the largest map if convolutional.
        prior_deviation: standard deviation of the normal prior of the codes.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.AdversarialAutoencoder((1, 8, 8), levels=17, width=16)
    >>> x = torch.rand(5, 1, 8, 8)
    >>> model.encode(x).shape, model.reconstruct(x).shape, model.sample(2).shape
    (torch.Size([5, 8]), torch.Size([5, 1, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    PLAYERS: ClassVar[tuple[str, ...]] = ("autoencoder", "discriminator", "generator")
    LEADER: ClassVar[str] = "autoencoder"
    unit: ClassVar[str] = "squared error"
    SETTINGS: ClassVar[dict[str, str]] = {
        "network": "dense: two hidden layers each way; convolutional: those of DCGAN",
        "encoder": "deterministic: a code; gaussian: mean and variance of one",
        "latent_dim": "numbers in a code",
        "width": "units of a dense layer, those of the discriminator among them",
        "channels": "channels of the largest map if convolutional",
        "prior_deviation": "standard deviation of the normal prior of the codes",
    }
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {"lr": 2e-4, "beta1": 0.5, "batch_size": 100}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        network: Network = "dense",
        encoder: Encoder = "deterministic",
        latent_dim: int = 8,
        width: int = 1000,
        channels: int = 32,
        prior_deviation: float = 5.0,
    ) -> None:
        super().__init__(image_shape, levels)
        if network not in ("dense", "convolutional"):
            raise ValueError(f"network must be 'dense' or 'convolutional', got {network!r}")
        if encoder not in ("deterministic", "gaussian"):
            raise ValueError(f"encoder must be 'deterministic' or 'gaussian', got {encoder!r}")
        for name, value in (("latent_dim", latent_dim), ("width", width), ("channels", channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not prior_deviation > 0:
            raise ValueError(f"prior_deviation must be greater than 0, got {prior_deviation}")
        self.latent_dim = latent_dim
        self.prior_deviation = prior_deviation
        self.gaussian = encoder == "gaussian"
        self.config = {
            **{"image_shape": self.image_shape, "levels": levels, "network": network},
            **{"encoder": encoder, "latent_dim": latent_dim, "width": width, "channels": channels},
            "prior_deviation": prior_deviation,
        }
        outputs = 2 * latent_dim if self.gaussian else latent_dim
        self.encoder: nn.Module
        self.decoder: nn.Module
        if network == "dense":
            self.encoder = _dense_encoder(self.image_shape, outputs, width)
            self.decoder = PerceptronGenerator(self.image_shape, latent_dim, width, 2)
        else:
            check_convolutional(self.image_shape, channels)
            # Not batch normalisation: the codes that the discriminator sees are those of evaluation.
            layer_norm = partial(nn.GroupNorm, 1)
            self.encoder = ConvEncoder(self.image_shape, outputs, channels, layer_norm)
            self.decoder = ConvGenerator(self.image_shape, latent_dim, channels)
        self.discriminator = PerceptronDiscriminator((latent_dim, 1, 1), width, 2)

    def player_modules(self, player: str) -> Sequence[nn.Module]:
        modules: dict[str, list[nn.Module]] = {
            "autoencoder": [self.encoder, self.decoder],
            "discriminator": [self.discriminator],
            "generator": [self.encoder],
        }
        return modules[player]

    def code_distribution(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean (N, latent_dim) of the codes, and their log variance if the encoder is Gaussian.

        Args:
            x: (N, C, H, W) in [0, 1].
        """
        outputs: Tensor = self.encoder(self._signed(x))
        if not self.gaussian:
            return outputs, None
        mean, log_variance = outputs.chunk(2, 1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Codes (N, latent_dim); of a Gaussian encoder a draw from torch's generator.

        Args:
            x: (N, C, H, W) in [0, 1].
        """
        mean, log_variance = self.code_distribution(x)
        if log_variance is None:
            return mean
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] from codes (N, latent_dim)."""
        images: Tensor = self.decoder(z)
        return (images + 1) / 2

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] from the mean codes of x, in evaluation mode."""
        with evaluating(self):
            return self.decode(self.code_distribution(x)[0])

    def autoencoder_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared error of the reconstruction, summed over an image in [0, 1], mean over them: 0-dim.

        Args:
            x: (N, C, H, W) in [0, 1].
            labels: None.
        """
        error: Tensor = self.decode(self.encode(x)).float() - x
        return error.square().flatten(1).sum(1).mean()

    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """-E log D(z) - E log(1 - D(q(x))) for draws z of the prior: 0-dim.

        Args:
            x: (N, C, H, W) in [0, 1].
            labels: None.
        """
        with torch.no_grad():
            codes = self.encode(x)
        real = torch.randn_like(codes) * self.prior_deviation
        seen = self.discriminator(real), self.discriminator(codes)
        return losses.discriminator_loss(*seen, "non-saturating")

    def generator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """-E log D(q(x)), which the encoder minimises: 0-dim.

        Args:
            x: (N, C, H, W) in [0, 1].
            labels: None.
        """
        return losses.generator_loss(self.discriminator(self.encode(x)), "non-saturating")

    @torch.no_grad()
    def sample(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        """Decoded draws of the prior: (n, C, H, W) in [0, 1], in evaluation mode.

        Args:
            n: number of images.
            seed: of the draws; an image depends on it and its number alone.
            start: number of the first image.

        Raises:
            ValueError: n or start below 0.
        """
        if n < 0 or start < 0:
            raise ValueError(f"n={n} and start={start} must be at least 0")
        like = next(self.decoder.parameters())
        z = numbered_noise(n, self.latent_dim, "normal", seed=seed, start=start, like=like)
        with evaluating(self):
            return self.decode(z * self.prior_deviation)


def _dense_encoder(image_shape: tuple[int, int, int], outputs: int, width: int) -> nn.Sequential:
    """Two hidden layers of ReLUs, linear at the end."""
    channels, height, image_width = image_shape
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(channels * height * image_width, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, outputs),
    )
