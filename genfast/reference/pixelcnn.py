"""PixelCNN as one would write it in plain PyTorch; same parameters as the fast model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfast.reference.masked_conv import MaskedConv2d


class _Block(nn.Module):
    def __init__(self, channels: int, colors: int, classes: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = MaskedConv2d(channels, half, (1, 1), "B", colors)
        self.spatial = MaskedConv2d(half, half, (3, 3), "B", colors)
        self.expand = MaskedConv2d(half, channels, (1, 1), "B", colors)
        self.by_class = nn.Embedding(classes, half) if classes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        y = self.spatial(torch.relu(self.reduce(torch.relu(x))))
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        expanded: Tensor = self.expand(torch.relu(y))
        return x + expanded


class PixelCNN(nn.Module):
    """The plain twin of `genfast.models.PixelCNN`: `load_state_dict` works both ways.

    >>> import torch, genfast
    >>> fast = genfast.models.PixelCNN((1, 4, 4), levels=2, channels=8, layers=2)
    >>> plain = genfast.reference.PixelCNN((1, 4, 4), levels=2, channels=8, layers=2)
    >>> plain.load_state_dict(fast.state_dict())
    <All keys matched successfully>
    >>> x = torch.randint(2, (5, 1, 4, 4))
    >>> torch.allclose(plain(x), fast(x), atol=1e-5)
    True
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        channels: int = 64,
        layers: int = 7,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        colors = image_shape[0]
        self.colors, self.levels = colors, levels
        outputs = colors * (1 if levels == 2 else levels)
        self.first = MaskedConv2d(colors, channels, (7, 7), "A", colors)
        self.blocks = nn.ModuleList(_Block(channels, colors, num_classes) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(channels, channels, (1, 1), "B", colors),
            nn.ReLU(),
            MaskedConv2d(channels, outputs, (1, 1), "B", colors),
        )

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, C, levels, H, W) of int64 levels (N, C, H, W)."""
        y = self.first(x.to(self.first.weight.dtype) * (2 / (self.levels - 1)) - 1)
        for block in self.blocks:
            y = block(y, labels)
        logits: Tensor = self.head(y).unflatten(1, (self.colors, -1))
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits
