"""Networks that tell from two images which direction leads from one to the other, and how far.

Source: Voynov and Babenko, "Unsupervised Discovery of Interpretable Directions in the GAN Latent Space"
(2020), section 3.3: LeNet for small images, ResNet-18 (He et al. 2016) for others, on the two images
concatenated.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class LeNetReconstructor(nn.Module):
    """Pairs (N, 2 channels, H, W) -> logits (N, k) and shifts (N,): three 5x5 convolutions, two heads.

    Args:
        channels: of one image.
        k: directions.
        width: factor of 6, 16 and 120 feature maps.
    """

    def __init__(self, channels: int, k: int, width: int = 2) -> None:
        super().__init__()
        maps = [2 * channels, 6 * width, 16 * width, 120 * width]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(maps)):
            layers += [nn.Conv2d(before, after, 5, padding=2), nn.BatchNorm2d(after), nn.ReLU()]
            if number < 2:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.direction, self.magnitude = (
            nn.Sequential(
                nn.Linear(maps[-1], 84 * width),
                nn.BatchNorm1d(84 * width),
                nn.ReLU(),
                nn.Linear(84 * width, outputs),
            )
            for outputs in (k, 1)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(torch.cat([first, second], 1))
        return self.direction(features), self.magnitude(features).squeeze(1)


class ResNetReconstructor(nn.Module):
    """Pairs (N, 2 channels, H, W) -> logits (N, k) and shifts (N,): a ResNet-18 with two linear heads.

    Args:
        channels: of one image.
        k: directions.
        width: channels of the first stage, doubled from stage to stage; 64 in ResNet-18.
    """

    def __init__(self, channels: int, k: int, width: int = 64) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = width
        for stage in range(4):
            after = width * 2**stage
            stages += [_BasicBlock(before, after, 2 if stage else 1), _BasicBlock(after, after, 1)]
            before = after
        self.features = nn.Sequential(
            nn.Conv2d(2 * channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.direction = nn.Linear(before, k)
        self.magnitude = nn.Linear(before, 1)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(torch.cat([first, second], 1))
        return self.direction(features), self.magnitude(features).squeeze(1)


class _BasicBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.layers(x) + self.shortcut(x)
        return changed.relu()
