"""CycleGAN: from one domain to another and back, learned without pairs.

Source: Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks"
(2017), equations 1-3, 5.2 (identity) and appendix 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genfast.models.adversarial import losses
from genfast.models.adversarial.base import normal_initialisation
from genfast.models.adversarial.image_pool import ImagePool
from genfast.models.adversarial.patch_discriminator import PatchDiscriminator, check_patches
from genfast.models.adversarial.translation import TranslationModel

_norm = partial(nn.InstanceNorm2d, affine=False)


class ResidualBlock(nn.Module):
    """x + (3x3, instance norm, ReLU, 3x3, instance norm), reflected at the border."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = partial(nn.Conv2d, channels, channels, 3, padding=1, padding_mode="reflect")
        self.layers = nn.Sequential(
            convolution(), _norm(channels), nn.ReLU(), convolution(), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(x)
        return x + change


class ResidualGenerator(nn.Sequential):
    """c7s1-w, d2w, d4w, residual blocks, u2w, uw, c7s1-outputs: (N, inputs, H, W) -> (-1, 1).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        width: w.
        blocks: residual blocks.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        w = width
        layers: list[nn.Module] = [
            *(nn.Conv2d(inputs, w, 7, padding=3, padding_mode="reflect"), _norm(w), nn.ReLU()),
            *(nn.Conv2d(w, 2 * w, 3, 2, 1), _norm(2 * w), nn.ReLU()),
            *(nn.Conv2d(2 * w, 4 * w, 3, 2, 1), _norm(4 * w), nn.ReLU()),
            *(ResidualBlock(4 * w) for _ in range(blocks)),
            *(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, output_padding=1), _norm(2 * w), nn.ReLU()),
            *(nn.ConvTranspose2d(2 * w, w, 3, 2, 1, output_padding=1), _norm(w), nn.ReLU()),
            *(nn.Conv2d(w, outputs, 7, padding=3, padding_mode="reflect"), nn.Tanh()),
        ]
        super().__init__(*layers)
        self.apply(normal_initialisation)


class CycleGAN(TranslationModel):
    """Two generators, each other's inverse, and a least-squares patch discriminator for each domain.

    The generators move first, then the discriminators, whose loss is halved; they see generated images
    through a pool. Images of the discriminators' turn are made anew, by the generators that have moved.

    Args:
        image_shape: (Ca + Cb, H, W): an image of each domain along the channels.
        levels: of the images that translations are written as.
        input_channels: Ca.
        width: channels of the first map of all networks.
        blocks: residual blocks of a generator; 0 for 9 from 256 pixels on, 6 below.
        patch_layers: convolutions of stride 2 of a discriminator: 3 judge patches of 70x70 pixels.
        cycle_weight: lambda of both cycle terms.
        identity_weight: of the identity terms, as a part of lambda; needs Ca = Cb unless 0.
        pool: generated images kept for each discriminator; 0 keeps none.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> settings = {"width": 4, "blocks": 1, "patch_layers": 1, "pool": 2}
    >>> model = genfast.models.CycleGAN((2, 8, 8), levels=17, input_channels=1, **settings)
    >>> model.generator_loss(torch.rand(3, 2, 8, 8)).shape
    torch.Size([])
    """

    PAIRED: ClassVar[bool] = False
    PLAYERS: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    SETTINGS: ClassVar[dict[str, str]] = {
        "width": "channels of the first map of all networks",
        "blocks": "residual blocks of a generator; 0 for 9 from 256 pixels on, 6 below",
        "patch_layers": "strided convolutions of a discriminator: 1, 2, 3 see 16, 34, 70 pixels",
        "cycle_weight": "weight of the cycle terms",
        "identity_weight": "weight of the identity terms, as a part of that of the cycle terms",
        "pool": "generated images kept for each discriminator",
    }
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {
        **{"lr": 2e-4, "beta1": 0.5, "batch_size": 1, "epochs": 200, "schedule": "late-linear"},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        input_channels: int,
        width: int = 64,
        blocks: int = 0,
        patch_layers: int = 3,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        pool: int = 50,
    ) -> None:
        super().__init__(image_shape, levels, input_channels)
        channels, height, image_width = self.image_shape
        of_a, of_b = input_channels, channels - input_channels
        if height % 4 or image_width % 4 or min(height, image_width) < 8:
            raise ValueError(f"image_shape must have sides that 4 divides, from 8 on, got {image_shape}")
        for name, value, least in (("width", width, 1), ("blocks", blocks, 0), ("pool", pool, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name, weight in (("cycle_weight", cycle_weight), ("identity_weight", identity_weight)):
            if not weight >= 0:
                raise ValueError(f"{name} must be 0 or more, got {weight}")
        if identity_weight and of_a != of_b:
            raise ValueError(
                f"identity_weight must be 0 for domains of {of_a} and {of_b} channels, "
                f"got {identity_weight}"
            )
        check_patches(self.image_shape, patch_layers)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.config = {
            **{"image_shape": self.image_shape, "levels": levels, "input_channels": input_channels},
            **{"width": width, "blocks": blocks, "patch_layers": patch_layers, "pool": pool},
            **{"cycle_weight": cycle_weight, "identity_weight": identity_weight},
        }
        count = blocks or (9 if min(height, image_width) >= 256 else 6)
        self.to_b = ResidualGenerator(of_a, of_b, width, count)
        self.to_a = ResidualGenerator(of_b, of_a, width, count)
        self.judge_a = PatchDiscriminator(of_a, width, patch_layers, _norm, biases=True)
        self.judge_b = PatchDiscriminator(of_b, width, patch_layers, _norm, biases=True)
        self.pool_a = ImagePool(pool, (of_a, height, image_width))
        self.pool_b = ImagePool(pool, (of_b, height, image_width))

    def player_modules(self, player: str) -> Sequence[nn.Module]:
        if player == "generator":
            return [self.to_b, self.to_a]
        return [self.judge_b, self.judge_a]

    def translate(self, a: Tensor) -> Tensor:
        b: Tensor = self.to_b(a)
        return b

    def generator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Least squares of both directions + lambda (both cycles + identity_weight both identities).

        Args:
            x: (N, Ca + Cb, H, W) in [0, 1]; its two images need not belong together.
            labels: None.
        """
        a, b = self._domains(x)
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        fooled = sum(
            losses.generator_loss(judge(fake), "least-squares")
            for judge, fake in ((self.judge_b, fake_b), (self.judge_a, fake_a))
        )
        cycles = _l1(self.to_a(fake_b), a) + _l1(self.to_b(fake_a), b)
        loss = fooled + self.cycle_weight * cycles
        if self.identity_weight:
            same = _l1(self.to_b(b), b) + _l1(self.to_a(a), a)
            loss = loss + self.cycle_weight * self.identity_weight * same
        return loss

    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The halved least squares of both discriminators, summed; in training through the pools.

        Args:
            x: (N, Ca + Cb, H, W) in [0, 1].
            labels: None.
        """
        a, b = self._domains(x)
        with torch.no_grad():
            fake_b, fake_a = self.to_b(a).float(), self.to_a(b).float()
        if self.training:
            fake_b, fake_a = self.pool_b(fake_b), self.pool_a(fake_a)
        of_a = losses.discriminator_loss(self.judge_a(a), self.judge_a(fake_a), "least-squares")
        of_b = losses.discriminator_loss(self.judge_b(b), self.judge_b(fake_b), "least-squares")
        return 0.5 * (of_a + of_b)


def _l1(x: Tensor, y: Tensor) -> Tensor:
    return (x.float() - y.float()).abs().mean()
