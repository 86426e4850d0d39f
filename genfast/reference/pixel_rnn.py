"""PixelRNN as one would write it in plain PyTorch; same parameters as the fast model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.reference.lstm_scan import diagonal_lstm, row_lstm
from genfast.reference.masked_conv import MaskedConv2d


class _Scan(nn.Module):
    def __init__(self, hidden: int, kernel: int, taps: int, colors: int) -> None:
        super().__init__()
        self.input_to_state = MaskedConv2d(
            2 * hidden, 4 * hidden, (1, kernel), "B", colors, out_splits=4
        )
        self.weight = nn.Parameter(torch.empty(4 * hidden, hidden, taps))
        nn.init.uniform_(self.weight, -(hidden**-0.5), hidden**-0.5)
        self.h0 = nn.Parameter(torch.zeros(hidden))
        self.c0 = nn.Parameter(torch.zeros(hidden))


class _Row(_Scan):
    def __init__(self, hidden: int, colors: int) -> None:
        super().__init__(hidden, 3, 3, colors)

    def forward(self, x: Tensor) -> Tensor:
        return row_lstm(self.input_to_state(x), self.weight, self.h0, self.c0)


class _Diagonal(nn.Module):
    def __init__(self, hidden: int, colors: int) -> None:
        super().__init__()
        self.left = _Scan(hidden, 1, 2, colors)
        self.right = _Scan(hidden, 1, 2, colors)

    def forward(self, x: Tensor) -> Tensor:
        left, right = (
            diagonal_lstm(s.input_to_state(x), s.weight, s.h0, s.c0, reverse=s is self.right)
            for s in (self.left, self.right)
        )
        return left + F.pad(right, (0, 0, 1, -1))  # one row down: what is right of a pixel comes later


class _Layer(nn.Module):
    def __init__(self, hidden: int, variant: str, colors: int, residual: bool, skip: bool) -> None:
        super().__init__()
        self.scan = (_Row if variant == "row" else _Diagonal)(hidden, colors)
        self.up, self.skip = (
            MaskedConv2d(hidden, 2 * hidden, (1, 1), "B", colors) if there else None
            for there in (residual, skip)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.scan(x)
        skip = None if self.skip is None else self.skip(y)
        return x if self.up is None else x + self.up(y), skip


class PixelRNN(nn.Module):
    """The plain twin of `genfast.models.PixelRNN`: `load_state_dict` works both ways.

    `saved` changes nothing here.

    >>> import torch, genfast
    >>> fast = genfast.models.PixelRNN((1, 4, 4), levels=2, variant="row", hidden=8, layers=2)
    >>> plain = genfast.reference.PixelRNN((1, 4, 4), levels=2, variant="row", hidden=8, layers=2)
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
        variant: str = "diagonal",
        hidden: int = 64,
        layers: int = 7,
        num_classes: int = 0,
        skip: bool = False,
        saved: str = "minimal",
    ) -> None:
        super().__init__()
        colors, width = image_shape[0], 2 * hidden
        self.colors, self.levels = colors, levels
        outputs = colors * (1 if levels == 2 else levels)
        self.first = MaskedConv2d(colors, width, (7, 7), "A", colors)
        self.by_class = nn.Embedding(num_classes, width) if num_classes else None
        self.layers = nn.ModuleList(
            _Layer(hidden, variant, colors, residual=not skip or i < layers - 1, skip=skip)
            for i in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(width, width, (1, 1), "B", colors),
            nn.ReLU(),
            MaskedConv2d(width, outputs, (1, 1), "B", colors),
        )

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, C, levels, H, W) of int64 levels (N, C, H, W)."""
        y = self.first(x.to(self.first.weight.dtype) * (2 / (self.levels - 1)) - 1)
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        skips = []
        for layer in self.layers:
            y, skip = layer(y)
            skips.append(skip)
        logits: Tensor = self.head(y if skip is None else sum(skips)).unflatten(1, (self.colors, -1))
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits
