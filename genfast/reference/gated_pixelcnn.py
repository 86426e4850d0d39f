"""Gated PixelCNN as one would write it in plain PyTorch; same parameters as the fast model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.reference.gated import gated_activation
from genfast.reference.masked_conv import MaskedConv2d


class _Block(nn.Module):
    def __init__(
        self,
        inputs: int,
        channels: int,
        first: bool,
        last: bool,
        colors: int,
        classes: int,
        planes: int,
        border: str,
        skip: bool,
    ) -> None:
        super().__init__()
        self.first, self.last, self.border = first, last, border
        k, mask, wide = 7 if first else 3, "A" if first else "B", 2 * channels
        rows = k // 2 if first and border == "bias" else k // 2 + 1
        self.vertical = nn.Conv2d(inputs, wide, (rows, k))
        self.link = nn.Conv2d(wide, wide, 1, bias=False)
        self.horizontal = MaskedConv2d(inputs, wide, (1, k), mask, colors, out_splits=2)
        self.skip = MaskedConv2d(channels, channels, (1, 1), "B", colors) if skip else None
        self.out = None if skip and last else MaskedConv2d(channels, channels, (1, 1), "B", colors)
        self.vertical_class = nn.Embedding(classes, wide) if classes and not last else None
        self.horizontal_class = nn.Embedding(classes, wide) if classes else None
        self.vertical_condition = nn.Conv2d(planes, wide, 1, bias=False) if planes and not last else None
        self.horizontal_condition = nn.Conv2d(planes, wide, 1, bias=False) if planes else None

    def forward(
        self, v: Tensor, h: Tensor, labels: Tensor | None, condition: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        rows, columns = self.vertical.kernel_size
        if self.border == "bias" and self.first:
            v = _shift_down(v)
        m = columns // 2
        v_sum = self.vertical(F.pad(v, (m, m, rows - 1, 0)))
        link = self.link(_shift_down(v_sum) if self.border == "zero" else v_sum)
        h_sum = self.horizontal(h) + link
        if self.horizontal_class is not None:
            h_sum = h_sum + self.horizontal_class(labels)[:, :, None, None]
        if self.horizontal_condition is not None:
            h_sum = h_sum + self.horizontal_condition(condition)
        if self.vertical_class is not None:
            v_sum = v_sum + self.vertical_class(labels)[:, :, None, None]
        if self.vertical_condition is not None:
            v_sum = v_sum + self.vertical_condition(condition)
        gated = gated_activation(h_sum)
        skip = None if self.skip is None else self.skip(gated)
        if self.out is not None:
            h = self.out(gated) if self.first else self.out(gated) + h
        return v if self.last else gated_activation(v_sum), h, skip


def _shift_down(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, -1))


class GatedPixelCNN(nn.Module):
    """The plain twin of `genfast.models.GatedPixelCNN`: `load_state_dict` works both ways.

    >>> import torch, genfast
    >>> fast = genfast.models.GatedPixelCNN((1, 4, 4), levels=2, channels=8, layers=2)
    >>> plain = genfast.reference.GatedPixelCNN((1, 4, 4), levels=2, channels=8, layers=2)
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
        layers: int = 8,
        num_classes: int = 0,
        condition_channels: int = 0,
        border: str = "zero",
        skip: bool = False,
    ) -> None:
        super().__init__()
        colors = image_shape[0]
        self.colors, self.levels = colors, levels
        self.blocks = nn.ModuleList(
            _Block(
                colors if i == 0 else channels,
                channels,
                i == 0,
                i == layers - 1,
                colors,
                num_classes,
                condition_channels,
                border,
                skip,
            )
            for i in range(layers)
        )
        outputs = colors * (1 if levels == 2 else levels)
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(channels, channels, (1, 1), "B", colors),
            nn.ReLU(),
            MaskedConv2d(channels, outputs, (1, 1), "B", colors),
        )

    def forward(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Logits (N, C, levels, H, W) of int64 levels (N, C, H, W)."""
        weight = self.blocks[0].get_parameter("vertical.weight")
        v = h = x.to(weight.dtype) * (2 / (self.levels - 1)) - 1
        skips = []
        for block in self.blocks:
            v, h, skip = block(v, h, labels, condition)
            skips.append(skip)
        seen = h if skips[0] is None else torch.stack(skips).sum(0)
        logits: Tensor = self.head(seen).unflatten(1, (self.colors, -1))
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits
