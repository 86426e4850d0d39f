"""Small modules built as people build theirs, which `genfast.swap` is tried on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genfast

# ---- masks -----------------------------------------------------------------------------------------


def raster(height: int, width: int, centre: bool) -> Tensor:
    """The spatial mask of a raster order."""
    mask = torch.zeros(height, width)
    mask[: height // 2] = 1
    mask[height // 2, : width // 2 + centre] = 1
    return mask


def interleaved(mask: Tensor, colours: int, centre: bool) -> Tensor:
    """`mask` (O, I, kh, kw) with channel % colours as the colour."""
    out = torch.arange(mask.shape[0])[:, None] % colours
    into = torch.arange(mask.shape[1])[None] % colours
    seen = into <= out if centre else into < out
    mask = mask.clone()
    mask[:, :, mask.shape[2] // 2, mask.shape[3] // 2] = seen.float()
    return mask


class InPlaceMasked(nn.Conv2d):
    """Overwrites its weight by the masked one at every call, as most ports do."""

    def __init__(self, mask, channels_in, channels_out, **keywords):
        mask = torch.as_tensor(mask).float()
        size = mask.shape[-2:]
        keywords.setdefault("padding", (size[0] // 2, size[1] // 2))
        super().__init__(channels_in, channels_out, tuple(size), **keywords)
        self.register_buffer("mask", mask.expand_as(self.weight).clone())

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class ProductMasked(InPlaceMasked):
    """Convolves with the product of weight and mask."""

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class UnusedMask(InPlaceMasked):
    """Has a mask, but does not mask."""

    def forward(self, x):
        return self._conv_forward(x, self.weight, self.bias)


class PlainAttributeMask(nn.Conv2d):
    """Its mask is no buffer, and has no channels."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.allowed = raster(*self.kernel_size, True)[None, None]

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.allowed, self.bias)


class MaskedWrapper(nn.Module):
    """A masked convolution next to its mask, not derived from one; dilated if wished."""

    def __init__(self, channels_in, channels_out, mask, dilation=1):
        super().__init__()
        padding = tuple(dilation * (size // 2) for size in mask.shape)
        self.inner = nn.Conv2d(
            channels_in, channels_out, tuple(mask.shape), padding=padding, dilation=dilation
        )
        self.register_buffer("pattern", mask[None, None])

    def forward(self, x):
        self.inner.weight.data *= self.pattern
        return self.inner(x)


# ---- gates -----------------------------------------------------------------------------------------


class SliceGate(nn.Module):
    """The gate, by slices."""

    def forward(self, x):
        half = x.shape[1] // 2
        return torch.tanh(x[:, :half]) * torch.sigmoid(x[:, half:])


class ReversedGate(nn.Module):
    """The other order of the halves, which is another function."""

    def forward(self, x):
        b, a = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)


def gate_function(y):
    a, b = torch.chunk(y, 2, dim=1)
    return b.sigmoid() * a.tanh()


class WithHelper(nn.Module):
    """A block that calls a gate by its name."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x, cond=None):
        y = self.conv(x)
        if cond is not None:
            y = y + cond
        return x + gate_function(y)


class TwoStacks(nn.Module):
    """A gated block with two stacks, dilated, of wrapped masked convolutions."""

    def __init__(self, channels, dilation=1):
        super().__init__()
        below = torch.ones(3, 3)
        below[2:] = 0
        self.down = MaskedWrapper(channels, 2 * channels, below, dilation)
        self.along = MaskedWrapper(channels, 2 * channels, raster(1, 3, True), dilation)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, v, h):
        rows = self.down(v)
        value, door = rows.chunk(2, dim=1)
        v_out = torch.tanh(value) * torch.sigmoid(door)
        columns = self.along(h)
        columns = columns + self.link(rows)
        value, door = columns.chunk(2, dim=1)
        h_out = torch.tanh(value) * torch.sigmoid(door)
        return v_out, h + self.mix(h_out)


class TwoStacksNet(nn.Module):
    def __init__(self, channels=6, blocks=2):
        super().__init__()
        above = torch.ones(3, 3)
        above[1:] = 0
        self.first_v = MaskedWrapper(1, channels, above)
        self.first_h = MaskedWrapper(1, channels, raster(1, 3, False))
        self.blocks = nn.ModuleList(TwoStacks(channels, dilation=1 + i) for i in range(blocks))
        self.last = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        v, h = self.first_v(x), self.first_h(x)
        for block in self.blocks:
            v, h = block(v, h)
        return self.last(F.elu(h))


# ---- what tests ask --------------------------------------------------------------------------------


def left_reason(module):
    """Why genfast.swap leaves a module alone, which it must."""
    before = type(module)
    report = genfast.swap(module)
    assert not report.replaced
    assert type(module) is before
    return report.left[0].reason


def results(model, inputs):
    """The output, and the gradients of parameters and floating-point inputs by name."""
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = model(*inputs)
    y = y if isinstance(y, torch.Tensor) else y[0]
    wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
    wanted |= {f"input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
    weights = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()
    found = torch.autograd.grad((y * weights).sum(), list(wanted.values()), allow_unused=True)
    return y.detach(), {n: g for n, g in zip(wanted, found, strict=True) if g is not None}
