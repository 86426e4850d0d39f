"""The U-Net of Pix2Pix.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017),
section 3.2.1 and appendix 6.1.1, as in the authors' PyTorch version (unet_256 has 8 halvings).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfast.models.adversarial.base import normal_initialisation


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved, at most 8 times.

    >>> halvings(256, 256), halvings(28, 28)
    (8, 2)
    """
    times = 0
    while height % 2 == 0 and width % 2 == 0 and times < 8:
        height, width, times = height // 2, width // 2, times + 1
    return times


class UNet(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W) in (-1, 1): 4x4 convolutions of stride 2 down and up.

    Every level but the lowest hands its map over to the way up. The first and the lowest map are not
    normalised. The ways up of the three levels above the lowest have dropout (the outermost never).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        depth: levels; both sides must be multiples of 2^depth.
        width: channels of the first map, doubled a level up to eight times as many.
        dropout: probability of an element to be dropped.
    """

    def __init__(
        self, inputs: int, outputs: int, depth: int, width: int = 64, dropout: float = 0.5
    ) -> None:
        super().__init__()
        maps = [width * min(2**level, 8) for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(maps):
            before = maps[level - 1] if level else inputs
            down: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            down.append(nn.Conv2d(before, channels, 4, 2, 1, bias=False))
            if 0 < level < depth - 1:
                down.append(nn.BatchNorm2d(channels))
            self.down.append(nn.Sequential(*down))
            below = channels if level == depth - 1 else 2 * channels
            after = maps[level - 1] if level else outputs
            up: list[nn.Module] = [nn.ReLU()]
            up.append(nn.ConvTranspose2d(below, after, 4, 2, 1, bias=level == 0))
            up.append(nn.BatchNorm2d(after) if level else nn.Tanh())
            if max(1, depth - 4) <= level < depth - 1:
                up.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*up))
        self.apply(normal_initialisation)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        for level in reversed(range(len(seen))):
            x = self.up[level](x if level == len(seen) - 1 else torch.cat([seen[level], x], 1))
        return x
