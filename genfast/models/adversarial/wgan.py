"""Wasserstein GAN: a critic whose slope is bounded by clipped weights or by a gradient penalty.

Sources: Arjovsky et al., "Wasserstein GAN" (2017), algorithm 1, and the schedule of its reference code;
Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), algorithm 1.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.adversarial.gradient_penalty import gradient_penalty
from genfast.models.adversarial.networks import NETWORK_SETTINGS, Network, make_networks
from genfast.models.adversarial.noise_gan import NOISE_SETTINGS, NoiseGAN, Prior

# With clipping, the critic has long turns at first and now and then.
_LONG_TURN, _FIRST, _EVERY = 100, 25, 500


def critic_steps(generator_steps: int, usual: int) -> int:
    """Steps of a clipped critic up to and with those before the last of so many generator steps.

    The i-th generator step, from 0, comes after 100 critic steps if i < 25 or i is a multiple of 500,
    else after `usual`.

    >>> [critic_steps(n, 5) for n in (1, 25, 26, 500, 501)]
    [100, 2500, 2505, 4875, 4975]
    """
    long = min(generator_steps, _FIRST) + max(0, (generator_steps - 1) // _EVERY)
    return long * _LONG_TURN + (generator_steps - long) * usual


class WGAN(NoiseGAN):
    """Critic and generator play for E f(x) - E f(G(z)), with f of bounded slope.

    Over K-Lipschitz f the maximum is K times the Wasserstein-1 distance. The loss of the critic, here
    called the discriminator, is that difference negated, plus the penalty if there is one.

    Args:
        image_shape: (C, H, W).
        levels: of the images that samples are written as.
        constraint: "clipping" sets the critic's weights into [-clip, clip] before each of its steps;
            "penalty" adds `penalty` times the gradient penalty (and then the convolutional critic
            normalises each sample by itself, over its channels and pixels).
        clip: bound of the weights.
        penalty: lambda.
        network: "dense" or "convolutional", as DCGAN.
        width: units of a layer if dense, else channels of the largest map.
        latent_dim: numbers in a noise vector.
        prior: law of the noise.
        discriminator_steps: of the critic for one of the generator; with clipping, 100 for each of the
            first 25 and for every 500th generator step, as in the reference code.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.WGAN((1, 8, 8), levels=17, constraint="penalty", width=8)
    >>> model.discriminator_loss(torch.rand(5, 1, 8, 8)).shape
    torch.Size([])
    """

    unit: ClassVar[str] = "critic units"
    SETTINGS: ClassVar[dict[str, str]] = {
        "constraint": "what bounds the critic's slope: clipping of its weights, or a gradient penalty",
        "clip": "bound of the critic's weights under clipping",
        "penalty": "weight of the gradient penalty",
        **NETWORK_SETTINGS,
        **{name: help for name, help in NOISE_SETTINGS.items() if name != "loss"},
    }
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {"optimizer": "rmsprop", "lr": 5e-5, "batch_size": 64}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        constraint: Literal["clipping", "penalty"] = "clipping",
        clip: float = 0.01,
        penalty: float = 10.0,
        network: Network = "convolutional",
        width: int = 64,
        latent_dim: int = 100,
        prior: Prior = "normal",
        discriminator_steps: int = 5,
    ) -> None:
        super().__init__(
            image_shape,
            levels,
            latent_dim=latent_dim,
            prior=prior,
            loss="wasserstein",
            discriminator_steps=discriminator_steps,
        )
        if constraint not in ("clipping", "penalty"):
            raise ValueError(f"constraint must be 'clipping' or 'penalty', got {constraint!r}")
        for name, value in (("clip", clip), ("penalty", penalty)):
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        self.constraint = constraint
        self.clip = clip
        self.penalty = penalty
        self.config = self._configured(
            constraint=constraint, clip=clip, penalty=penalty, network=network, width=width
        )
        del self.config["loss"]
        layer_norm = partial(nn.GroupNorm, 1)
        self.generator, self.discriminator = make_networks(
            network,
            width,
            self.image_shape,
            latent_dim,
            normalisation=nn.BatchNorm2d if constraint == "clipping" else layer_norm,
        )

    def compile_players(self) -> None:
        if self.constraint == "penalty":
            raise ValueError(
                "must be off for constraint 'penalty': torch.compile has no second derivatives"
            )
        super().compile_players()

    def turns(self, step: int) -> tuple[str, ...]:
        """The critic in every step, and the generator where its turn is due."""
        if self.constraint == "penalty":
            return super().turns(step)
        usual = self.discriminator_steps
        due = bisect_left(range(1, step + 2), step + 1, key=lambda n: critic_steps(n, usual)) + 1
        both = critic_steps(due, usual) == step + 1
        return ("discriminator", "generator") if both else ("discriminator",)

    @torch.no_grad()
    def before_turn(self, player: str) -> None:
        """Before a step of the critic, its weights are clipped, if that is what bounds it."""
        if player == "discriminator" and self.constraint == "clipping":
            for weight in self.player_weights(player):
                weight.clamp_(-self.clip, self.clip)

    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """E f(G(z)) - E f(x), and the penalty if there is one: 0-dim.

        Args:
            x: (N, C, H, W) in [0, 1].
            labels: None.
        """
        real, fake = self._signed(x), self._forged(len(x), labels)
        loss = self._discrimination(real, fake, labels)
        if self.constraint == "clipping":
            return loss
        return loss + self.penalty * gradient_penalty(self.logits, real, fake)

    def held_out_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """E f(G(z)) - E f(x), without the penalty: the negated estimate of the distance."""
        return super().discriminator_loss(x, labels)
