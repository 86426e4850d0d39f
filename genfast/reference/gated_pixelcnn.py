"""Gated PixelCNN as one would write it in plain PyTorch; same parameters as the fast model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.reference.gated import gated_activation
from genfast.reference.masked_conv import causal_mask


class _MaskedConv2d(nn.Conv2d):
    """A dense convolution whose weight is multiplied by a mask at every call."""

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        mask_type: str,
        colors: int,
        out_splits: int = 1,
    ) -> None:
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        shape = (out_channels, in_channels, *kernel_size)
        mask = causal_mask(shape, mask_type, colors, out_splits).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class _Block(nn.Module):
    def __init__(
        self, inputs: int, channels: int, k: int, mask: str, colors: int, classes: int, last: bool
    ) -> None:
        super().__init__()
        self.residual, self.last, self.k = mask == "B", last, k
        wide = 2 * channels
        self.vertical = nn.Conv2d(inputs, wide, (k // 2 + 1, k))
        self.link = nn.Conv2d(wide, wide, 1, bias=False)
        self.horizontal = _MaskedConv2d(inputs, wide, (1, k), mask, colors, out_splits=2)
        self.out = _MaskedConv2d(channels, channels, (1, 1), "B", colors)
        self.vertical_class = nn.Embedding(classes, wide) if classes and not last else None
        self.horizontal_class = nn.Embedding(classes, wide) if classes else None

    def forward(self, v: Tensor, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        m = self.k // 2
        v_sum = self.vertical(F.pad(v, (m, m, m, 0)))
        h_sum = self.horizontal(h) + self.link(F.pad(v_sum, (0, 0, 1, -1)))
        if self.horizontal_class is not None:
            h_sum = h_sum + self.horizontal_class(labels)[:, :, None, None]
        if self.vertical_class is not None:
            v_sum = v_sum + self.vertical_class(labels)[:, :, None, None]
        h_out = self.out(gated_activation(h_sum))
        return (
            v if self.last else gated_activation(v_sum),
            h_out + h if self.residual else h_out,
        )


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
    ) -> None:
        super().__init__()
        colors = image_shape[0]
        self.colors, self.levels = colors, levels
        self.blocks = nn.ModuleList(
            _Block(
                colors if i == 0 else channels,
                channels,
                7 if i == 0 else 3,
                "A" if i == 0 else "B",
                colors,
                num_classes,
                i == layers - 1,
            )
            for i in range(layers)
        )
        outputs = colors * (1 if levels == 2 else levels)
        self.head = nn.Sequential(
            nn.ReLU(),
            _MaskedConv2d(channels, channels, (1, 1), "B", colors),
            nn.ReLU(),
            _MaskedConv2d(channels, outputs, (1, 1), "B", colors),
        )

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, C, levels, H, W) of int64 levels (N, C, H, W)."""
        weight = self.blocks[0].get_parameter("vertical.weight")
        v = h = x.to(weight.dtype) * (2 / (self.levels - 1)) - 1
        for block in self.blocks:
            v, h = block(v, h, labels)
        logits: Tensor = self.head(h).unflatten(1, (self.colors, -1))
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits
