"""Pix2Pix: images from images, learned from pairs.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017),
equations 1-4 and section 3.3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from genfast.models.adversarial import losses
from genfast.models.adversarial.patch_discriminator import PatchDiscriminator, check_patches
from genfast.models.adversarial.translation import TranslationModel
from genfast.models.adversarial.unet import UNet, halvings


class Pix2Pix(TranslationModel):
    """A U-Net against a patch discriminator of the pair (input, output), and lambda times L1.

    The loss of the discriminator is halved, which slows it; it moves first.

    Args:
        image_shape: (Ca + Cb, H, W): both images of a pair along the channels.
        levels: of the images that translations are written as.
        input_channels: Ca.
        width: channels of the first map of both networks.
        depth: levels of the U-Net; 0 for as many as the size can be halved, 8 at most.
        patch_layers: convolutions of stride 2 of the discriminator: 3 judge patches of 70x70 pixels.
        dropout: of the U-Net, in training and, if asked for, in `sample`.
        l1_weight: lambda of the L1 distance, of images in [-1, 1].

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.Pix2Pix((4, 32, 32), levels=256, input_channels=1, width=4)
    >>> model.generator_loss(torch.rand(2, 4, 32, 32)).shape
    torch.Size([])
    >>> model.sample(2, given=torch.rand(2, 1, 32, 32), dropout=True).shape
    torch.Size([2, 3, 32, 32])
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "width": "channels of the first map of both networks",
        "depth": "levels of the U-Net; 0 for as many as the size can be halved, 8 at most",
        "patch_layers": "strided convolutions of the discriminator: 1, 2, 3 see 16, 34, 70 pixels",
        "dropout": "probability of an element of the U-Net to be dropped",
        "l1_weight": "weight of the L1 distance",
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
        depth: int = 0,
        patch_layers: int = 3,
        dropout: float = 0.5,
        l1_weight: float = 100.0,
    ) -> None:
        super().__init__(image_shape, levels, input_channels)
        most = halvings(*self.image_shape[1:])
        if not 0 <= depth <= most or most == 0:
            raise ValueError(f"depth must be 0 to {most} for images of {image_shape}, got {depth}")
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be 0 or more and less than 1, got {dropout}")
        if not l1_weight >= 0:
            raise ValueError(f"l1_weight must be 0 or more, got {l1_weight}")
        check_patches(self.image_shape, patch_layers)
        self.l1_weight = l1_weight
        self.config = {
            **{"image_shape": self.image_shape, "levels": levels, "input_channels": input_channels},
            **{"width": width, "depth": depth, "patch_layers": patch_layers},
            **{"dropout": dropout, "l1_weight": l1_weight},
        }
        channels = self.image_shape[0]
        outputs = channels - input_channels
        self.generator = UNet(input_channels, outputs, depth or most, width, dropout)
        self.discriminator = PatchDiscriminator(channels, width, patch_layers)

    def translate(self, a: Tensor) -> Tensor:
        b: Tensor = self.generator(a)
        return b

    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Half of -E log D(a, b) - E log(1 - D(a, G(a))), mean over patches too: 0-dim.

        Args:
            x: (N, Ca + Cb, H, W) in [0, 1].
            labels: None.
        """
        a, b = self._domains(x)
        with torch.no_grad():
            fake = self.translate(a)
        real, forged = (self.discriminator(torch.cat([a, image], 1)) for image in (b, fake))
        return 0.5 * losses.discriminator_loss(real, forged, "non-saturating")

    def generator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """-E log D(a, G(a)) + lambda E |b - G(a)|, 0-dim.

        Args:
            x: (N, Ca + Cb, H, W) in [0, 1].
            labels: None.
        """
        a, b = self._domains(x)
        fake = self.translate(a)
        judged = self.discriminator(torch.cat([a, fake], 1))
        distance = (fake.float() - b).abs().mean()
        return losses.generator_loss(judged, "non-saturating") + self.l1_weight * distance
