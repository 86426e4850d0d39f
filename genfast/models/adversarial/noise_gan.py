"""A generator of images from noise against a discriminator: what GAN, DCGAN and their kin share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genfast.models.adversarial import losses
from genfast.models.adversarial.base import AdversarialModel
from genfast.models.adversarial.noise import Prior as Prior
from genfast.models.adversarial.noise import numbered_noise
from genfast.models.checks import check_labels
from genfast.sampling.modes import evaluating


class NoiseGAN(AdversarialModel):
    """G maps noise z, of a law that we choose, to images; D tells them from real ones.

    A subclass gives the networks: `generator` (N, latent_dim) -> (N, C, H, W) in [-1, 1] and
    `discriminator` (N, C, H, W) in [-1, 1] -> logits (N,). In a model with classes both take labels (N,)
    int64 as well.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        num_classes: 0 for a model without classes.
        latent_dim: numbers in a noise vector.
        prior: their law: "normal" N(0, 1) or "uniform" on (-1, 1).
        loss: the game; see `genfast.models.adversarial.losses`.
        discriminator_steps: of the discriminator for one of the generator, each on images of its own.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        num_classes: int = 0,
        *,
        latent_dim: int,
        prior: Prior = "normal",
        loss: losses.AdversarialLoss = "non-saturating",
        discriminator_steps: int = 1,
    ) -> None:
        super().__init__(image_shape, levels, num_classes)
        for name, value in (("latent_dim", latent_dim), ("discriminator_steps", discriminator_steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if prior not in ("normal", "uniform"):
            raise ValueError(f"prior must be 'normal' or 'uniform', got {prior!r}")
        losses.check_loss(loss)
        self.latent_dim = latent_dim
        self.prior = prior
        self.adversarial_loss = loss
        self.discriminator_steps = discriminator_steps

    def turns(self, step: int) -> tuple[str, ...]:
        """The discriminator in every step, then the generator in each `discriminator_steps`-th."""
        due = (step + 1) % self.discriminator_steps == 0
        return ("discriminator", "generator") if due else ("discriminator",)

    def noise(self, n: int) -> Tensor:
        """z (n, latent_dim) from torch's generator, for training."""
        device, dtype = self._place()
        if self.prior == "normal":
            return torch.randn(n, self.latent_dim, device=device, dtype=dtype)
        return torch.rand(n, self.latent_dim, device=device, dtype=dtype) * 2 - 1

    def latents(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        """z (n, latent_dim) for sampling: z of an image depends on the seed and its number alone."""
        like = next(self.generator.parameters())
        return numbered_noise(n, self.latent_dim, self.prior, seed=seed, start=start, like=like)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from z (N, latent_dim); with gradients."""
        check_labels(len(z), labels, self.num_classes)
        images: Tensor = self.generator(*_given(z, labels))
        return images

    def logits(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """How real images (N, C, H, W) in [-1, 1] seem: (N,), the logit of D."""
        check_labels(len(x), labels, self.num_classes)
        logits: Tensor = self.discriminator(*_given(x, labels))
        return logits

    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the discriminator minimises, 0-dim: on images and on as many generated ones.

        Args:
            x: (N, C, H, W) in [0, 1].
            labels: (N,) int64; only for a model with classes. D is shown them with both.
        """
        real, fake = self._signed(x), self._forged(len(x), labels)
        return self._discrimination(real, fake, labels)

    def generator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the generator minimises, 0-dim; of `x` (N, C, H, W) only the number counts.

        Args:
            x: as many images are generated.
            labels: (N,) int64; only for a model with classes.
        """
        fake = self.generate(self.noise(len(x)), labels)
        return losses.generator_loss(self.logits(fake, labels), self.adversarial_loss)

    @torch.no_grad()
    def sample(
        self, n: int, *, seed: int = 0, labels: Tensor | int | None = None, start: int = 0
    ) -> Tensor:
        """Draws images: (n, C, H, W) in [0, 1], in evaluation mode.

        An image depends on the seed and its number, not on the batch: sample(64) is sample(32) followed
        by sample(32, start=32).

        Args:
            n: number of images.
            seed: of the draws.
            labels: (n,) int64 or one int for all; only for a model with classes.
            start: number of the first image.

        Raises:
            ValueError: an argument out of its range.
        """
        if n < 0 or start < 0:
            raise ValueError(f"n={n} and start={start} must be at least 0")
        if isinstance(labels, int):
            labels = torch.full((n,), labels, device=self._place()[0])
        with evaluating(self):
            return (self.generate(self.latents(n, seed=seed, start=start), labels) + 1) / 2

    @torch.no_grad()
    def _forged(self, n: int, labels: Tensor | None) -> Tensor:
        """Generated images in [-1, 1] for the discriminator to learn from."""
        return self.generate(self.noise(n), labels)

    def _discrimination(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        seen = self.logits(real, labels), self.logits(fake, labels)
        return losses.discriminator_loss(*seen, self.adversarial_loss)

    def _place(self) -> tuple[torch.device, torch.dtype]:
        weight = next(self.generator.parameters())
        return weight.device, weight.dtype

    def _configured(self, **own: Any) -> dict[str, Any]:
        """`config` with the arguments of this class, and the subclass's own."""
        return {
            "image_shape": self.image_shape,
            "levels": self.levels,
            "latent_dim": self.latent_dim,
            "prior": self.prior,
            "loss": self.adversarial_loss,
            "discriminator_steps": self.discriminator_steps,
            **own,
        }


#: Help texts of the settings of every such model.
NOISE_SETTINGS = {
    "latent_dim": "numbers in a noise vector",
    "prior": "law of the noise: normal N(0, 1), or uniform on (-1, 1)",
    "loss": "the game: non-saturating, minimax, least-squares or wasserstein",
    "discriminator_steps": "steps of the discriminator for one of the generator",
}


def _given(x: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
    return (x,) if labels is None else (x, labels)
