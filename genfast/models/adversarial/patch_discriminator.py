"""PatchGAN: a discriminator that judges each patch of an image by itself.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017),
section 3.2.2 and appendix 6.1.2; Zhu et al., "Unpaired Image-to-Image Translation" (2017), appendix 7.2.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from genfast.models.adversarial.base import normal_initialisation


class PatchDiscriminator(nn.Module):
    """Images (N, channels, H, W) -> logits (N, 1, h, w), one a patch: of 70x70 pixels with three layers.

    4x4 convolutions: `layers` of stride 2, one of stride 1, one to a single channel; leaky ReLUs of
    slope 0.2; normalisation after all but the first and the last.

    Args:
        channels: of the images.
        width: channels of the first map; doubled a layer, up to eight times as many.
        layers: convolutions of stride 2; patches of 16, 34 and 70 pixels for 1, 2 and 3.
        normalisation: makes a layer from its channels; `biases` says whether convolutions before one
            have a bias.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        layers: int = 3,
        normalisation: Callable[[int], nn.Module] = nn.BatchNorm2d,
        biases: bool = False,
    ) -> None:
        super().__init__()
        maps = [width * min(2**power, 8) for power in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(channels, maps[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for number, (before, after) in enumerate(pairwise(maps), 1):
            stride = 2 if number < layers else 1
            modules += [
                nn.Conv2d(before, after, 4, stride, 1, bias=biases),
                normalisation(after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*modules, nn.Conv2d(maps[-1], 1, 4, 1, 1))
        self.apply(normal_initialisation)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def check_patches(image_shape: tuple[int, int, int], layers: int) -> None:
    """Raises `ValueError` if no patch is left of an image, naming the setting `patch_layers`."""
    if layers < 1:
        raise ValueError(f"patch_layers must be at least 1, got {layers}")
    least = 3 * 2**layers
    if min(image_shape[1:]) < least:
        raise ValueError(
            f"patch_layers={layers} needs images of at least {least}x{least} pixels, got "
            f"{image_shape[1]}x{image_shape[2]}: fewer layers, or a larger image_size"
        )
