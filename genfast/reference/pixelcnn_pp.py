"""PixelCNN++ as one would write it in plain PyTorch; same parameters as the fast model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Conv(nn.Module):
    """Sees what lies above, and also to the left if `kw` is even; weight norm per output channel."""

    def __init__(self, inputs: int, outputs: int, kh: int, kw: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.pad = ((kw - 1) // 2, (kw - 1) // 2) if kw % 2 else (kw - 1, 0)
        self.weight_v = nn.Parameter(torch.randn(outputs, inputs, kh, kw) * 0.05)
        self.weight_g = nn.Parameter(torch.ones(outputs, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = _normalised(self.weight_v, self.weight_g, (1, 2, 3))
        x = F.pad(x, (*self.pad, weight.shape[2] - 1, 0))
        return F.conv2d(x, weight, self.bias, stride=self.stride)


class _Upsample(nn.Module):
    """The transposed form of `_Conv` with stride 2, cropped to exactly twice the size."""

    def __init__(self, filters: int, kh: int, kw: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.randn(filters, filters, kh, kw) * 0.05)
        self.weight_g = nn.Parameter(torch.ones(1, filters, 1, 1))
        self.bias = nn.Parameter(torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        weight = _normalised(self.weight_v, self.weight_g, (0, 2, 3))
        left = (weight.shape[3] - 1) // 2 if weight.shape[3] % 2 else 0
        y = F.conv_transpose2d(x, weight, self.bias, stride=2, output_padding=1)
        return y[:, :, : 2 * x.shape[2], left : left + 2 * x.shape[3]]


class _GatedResnet(nn.Module):
    def __init__(self, filters: int, kw: int, shortcut: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv_in = _Conv(2 * filters, filters, 2, kw)
        self.shortcut = _Conv(2 * shortcut, filters, 1, 1) if shortcut else None
        self.conv_out = _Conv(2 * filters, 2 * filters, 2, kw)
        self.by_class = nn.Embedding(classes, 2 * filters) if classes else None
        self.dropout = dropout

    def forward(self, x: Tensor, a: Tensor | None, labels: Tensor | None) -> Tensor:
        y = self.conv_in(_concat_elu(x))
        if self.shortcut is not None and a is not None:
            y = y + self.shortcut(_concat_elu(a))
        y = self.conv_out(F.dropout(_concat_elu(y), self.dropout, self.training))
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        p, q = y.chunk(2, 1)
        gated: Tensor = x + p * torch.sigmoid(q)
        return gated


class _Level(nn.Module):
    def __init__(
        self, kind: str, first: bool, resnets: int, filters: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        if not first:
            encoder = kind == "encoder"
            self.entry_u = _Conv(filters, filters, 2, 3, 2) if encoder else _Upsample(filters, 2, 3)
            self.entry_ul = _Conv(filters, filters, 2, 2, 2) if encoder else _Upsample(filters, 2, 2)
        short_u, short_ul = (0, filters) if kind == "encoder" else (filters, 2 * filters)
        rest = (classes, dropout)
        self.u = nn.ModuleList(_GatedResnet(filters, 3, short_u, *rest) for _ in range(resnets))
        self.ul = nn.ModuleList(_GatedResnet(filters, 2, short_ul, *rest) for _ in range(resnets))


class PixelCNNPP(nn.Module):
    """The plain twin of `genfast.models.PixelCNNPP`: `load_state_dict` works both ways.

    >>> import torch, genfast
    >>> size = {"levels": 256, "filters": 8, "resnets": 1, "dropout": 0}
    >>> fast = genfast.models.PixelCNNPP((3, 4, 4), **size)
    >>> plain = genfast.reference.PixelCNNPP((3, 4, 4), **size)
    >>> plain.load_state_dict(fast.state_dict())
    <All keys matched successfully>
    >>> x = torch.randint(256, (5, 3, 4, 4))
    >>> torch.allclose(plain(x), fast(x), atol=1e-5)
    True
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        filters: int = 160,
        resnets: int = 5,
        resolutions: int = 3,
        mixtures: int = 10,
        num_classes: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.levels = levels
        colours = image_shape[0]
        self.first_u = _Conv(colours + 1, filters, 2, 3)
        self.first_ul_above = _Conv(colours + 1, filters, 1, 3)
        self.first_ul_left = _Conv(colours + 1, filters, 2, 1)
        rest = (filters, num_classes, dropout)
        self.encoder: Any = nn.ModuleList(
            _Level("encoder", i == 0, resnets, *rest) for i in range(resolutions)
        )
        self.decoder: Any = nn.ModuleList(
            _Level("decoder", i == 0, resnets + (i > 0), *rest) for i in range(resolutions)
        )
        self.last = _Conv(filters, mixtures * (10 if colours == 3 else 3), 1, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mixture's parameters (N, 10K or 3K, H, W) of int64 levels (N, C, H, W)."""
        x = x.to(self.last.bias.dtype) * (2 / (self.levels - 1)) - 1
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        u = F.pad(self.first_u(x), (0, 0, 1, -1))
        ul = F.pad(self.first_ul_above(x), (0, 0, 1, -1)) + F.pad(self.first_ul_left(x), (1, -1))
        us, uls = [], []
        for i, level in enumerate(self.encoder):
            if i:
                u, ul = level.entry_u(u), level.entry_ul(ul)
            us.append(u)
            uls.append(ul)
            for resnet_u, resnet_ul in zip(level.u, level.ul, strict=True):
                u = resnet_u(u, None, labels)
                ul = resnet_ul(ul, u, labels)
                us.append(u)
                uls.append(ul)
        u, ul = us.pop(), uls.pop()
        for i, level in enumerate(self.decoder):
            if i:
                height, width = us[-1].shape[2:]
                u = level.entry_u(u)[:, :, :height, :width]
                ul = level.entry_ul(ul)[:, :, :height, :width]
            for resnet_u, resnet_ul in zip(level.u, level.ul, strict=True):
                u = resnet_u(u, us.pop(), labels)
                ul = resnet_ul(ul, torch.cat([u, uls.pop()], 1), labels)
        parameters: Tensor = self.last(F.elu(ul))
        return parameters


def _concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1))


def _normalised(v: Tensor, g: Tensor, dim: tuple[int, ...]) -> Tensor:
    weight: Tensor = g * v / torch.linalg.vector_norm(v, dim=dim, keepdim=True)
    return weight
