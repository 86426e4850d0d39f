"""Small Gated PixelCNN and PixelCNN++ models built as public ports build theirs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from swap_modules import InPlaceMasked, SliceGate, interleaved, raster
from torch import nn

# ---- a Gated PixelCNN port: vertical convolutions that are cropped, colours interleaved ------------


class CroppedPair(nn.Conv2d):
    def forward(self, x):
        y = super().forward(x)
        rows = self.kernel_size[0]
        return y[:, :, 1:-rows], y[:, :, : -rows - 1]


class ColourMasked(InPlaceMasked):
    def __init__(self, channels_in, channels_out, kernel_size, centre, colours, **keywords):
        mask = raster(*kernel_size, centre).expand(channels_out, channels_in, *kernel_size)
        super().__init__(interleaved(mask, colours, centre), channels_in, channels_out, **keywords)


class PortBlock(nn.Module):
    """Two stacks, a class, skip connections; adds in place to one of two views of a result."""

    def __init__(self, channels, kernel, colours, first=0):
        super().__init__()
        self.width = channels
        self.residual = not first
        rows, into = kernel // 2 + 1, first or channels
        self.v_conv = CroppedPair(into, 2 * channels, (rows, kernel), padding=(rows, kernel // 2))
        self.v_1x1 = nn.Conv2d(into, 2 * channels, 1)
        self.link = ColourMasked(2 * channels, 2 * channels, (1, 1), True, colours)
        self.h_conv = ColourMasked(into, 2 * channels, (1, kernel), not first, colours)
        self.h_out = ColourMasked(channels, channels, (1, 1), True, colours)
        self.h_skip = ColourMasked(channels, channels, (1, 1), True, colours)
        self.classes = nn.Embedding(10, 2 * channels)

    def forward(self, streams):
        v, h, skip, label = streams["v"], streams["h"], streams["skip"], streams["label"]
        bias = self.classes(label)[:, :, None, None]
        v_out, above = self.v_conv(v)
        v_out += self.v_1x1(v)
        v_out += bias
        left, right = torch.split(v_out, self.width, dim=1)
        v_out = torch.tanh(left) * torch.sigmoid(right)
        h_out = self.h_conv(h)
        above = self.link(above)
        h_out += above
        h_out += bias
        left, right = torch.split(h_out, self.width, dim=1)
        h_out = torch.tanh(left) * torch.sigmoid(right)
        skip = skip + self.h_skip(h_out)
        h_out = self.h_out(h_out)
        if self.residual:
            v_out, h_out = v_out + v, h_out + h
        return {"v": v_out, "h": h_out, "skip": skip, "label": label}


class PortNet(nn.Module):
    """A Gated PixelCNN built of them."""

    def __init__(self, channels=6, layers=2, colours=3, levels=4, head=12):
        super().__init__()
        self.width = channels
        self.first = PortBlock(channels, 7, colours, first=colours)
        self.blocks = nn.Sequential(*(PortBlock(channels, 3, colours) for _ in range(layers)))
        self.head = ColourMasked(channels, head, (1, 1), True, colours)
        self.last = ColourMasked(head, colours * levels, (1, 1), True, colours)

    def forward(self, x, label):
        skip = x.new_zeros(len(x), self.width, *x.shape[2:])
        streams = self.blocks(self.first({"v": x, "h": x, "skip": skip, "label": label}))
        return self.last(F.relu(self.head(F.relu(streams["skip"]))))


# ---- a Gated PixelCNN port: gates as modules, convolutions cropped by the block --------------------


class SeparableBlock(nn.Module):
    """Vertical convolution in two parts; the block crops what they give."""

    def __init__(self, channels, kernel, first=0):
        super().__init__()
        into, half = first or channels, kernel // 2
        self.residual = not first
        self.gate = SliceGate()
        self.across = nn.Conv2d(into, channels, (1, kernel), padding=(0, half))
        self.down = nn.Conv2d(channels, 2 * channels, (half + 1, 1), padding=(half + 1, 0))
        self.own = nn.Conv2d(into, 2 * channels, 1)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.along = nn.Conv2d(into, 2 * channels, (1, half + 1), padding=(0, half + bool(first)))
        self.out = nn.Conv2d(channels, channels, 1)
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, v, h):
        height, width = v.shape[2:]
        rows = self.down(self.across(v))[:, :, :height]
        gated = self.gate(self.link(rows) + self.along(h)[..., :width])
        v_out, h_out = self.gate(rows + self.own(v)), self.out(gated)
        return v_out, h_out + h if self.residual else h_out, self.skip(gated)


class SeparableNet(nn.Module):
    def __init__(self, channels=128, layers=10):
        super().__init__()
        self.first = SeparableBlock(channels, 7, first=1)
        self.blocks = nn.ModuleList(SeparableBlock(channels, 3) for _ in range(layers))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 32, 1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    def forward(self, x):
        v, h, total = self.first(x, x)
        for block in self.blocks:
            v, h, skip = block(v, h)
            total = total + skip
        return self.last(total)


# ---- PixelCNN++ ports ------------------------------------------------------------------------------


def both_signs(x):
    return F.elu(torch.cat([x, -x], dim=1))


def _normed(conv):
    return nn.utils.weight_norm(conv)


class ChannelMap(nn.Module):
    """A 1x1 convolution as a linear map of channels-last rows."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.linear = _normed(nn.Linear(channels_in, channels_out))

    def forward(self, x):
        last = x.permute(0, 2, 3, 1)
        y = self.linear(last.reshape(-1, last.shape[3]))
        return y.view(*last.shape[:3], -1).permute(0, 3, 1, 2)


class PaddedConv(nn.Module):
    """Pads above (and left), then convolves; may move its result by a row or a column."""

    def __init__(self, into, out, size=(2, 3), stride=1, right=False, move=None):
        super().__init__()
        side = (size[1] - 1, 0) if right else ((size[1] - 1) // 2,) * 2
        self.pad = nn.ZeroPad2d((*side, size[0] - 1, 0))
        self.conv = _normed(nn.Conv2d(into, out, size, stride))
        self.move = nn.ZeroPad2d(move) if move else None

    def forward(self, x):
        y = self.conv(self.pad(x))
        if self.move is None:
            return y
        _, _, rows, columns = y.shape
        return self.move(y)[:, :, :rows, :columns]


class MovedConv(nn.Module):
    """Likewise, but what moves the result is no module."""

    def __init__(self, into, out, size, right):
        super().__init__()
        side = (size[1] - 1, 0) if right else ((size[1] - 1) // 2,) * 2
        self.pad = nn.ZeroPad2d((*side, size[0] - 1, 0))
        self.conv = _normed(nn.Conv2d(into, out, size))
        self.right = right

    def forward(self, x):
        y = self.conv(self.pad(x))
        return F.pad(y, (1, -1, 0, 0)) if self.right else F.pad(y, (0, 0, 1, -1))


class CroppedDeconv(nn.Module):
    """A transposed convolution with one more row and column, cropped."""

    def __init__(self, into, out, size=(2, 3), right=False):
        super().__init__()
        self.deconv = _normed(nn.ConvTranspose2d(into, out, size, 2, output_padding=1))
        self.size, self.right = size, right

    def forward(self, x):
        y = self.deconv(x)
        rows, columns = y.shape[2] - self.size[0] + 1, y.shape[3] - self.size[1] + 1
        side = 0 if self.right else (self.size[1] - 1) // 2
        return y[:, :, :rows, side : side + columns]


class ShiftedSubclass(nn.Conv2d):
    """Derived from a convolution, weight norm on itself."""

    def __init__(self, *arguments, right=False, **keywords):
        super().__init__(*arguments, **keywords)
        self.right = right
        _normed(self)

    def forward(self, x):
        rows, columns = self.kernel_size
        side = (columns - 1, 0) if self.right else ((columns - 1) // 2,) * 2
        return super().forward(F.pad(x, (*side, rows - 1, 0)))


class ShiftedTransposedSubclass(nn.ConvTranspose2d):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        _normed(self)

    def forward(self, x):
        y = super().forward(x)
        return y[:, :, : 2 * x.shape[2], self.kernel_size[1] // 2 :][..., : 2 * x.shape[3]]


class GatedResnet(nn.Module):
    """PixelCNN++'s block: value times sigmoid, an optional second input, dropout of channels."""

    def __init__(self, filters, right, shortcut=0):
        super().__init__()
        size = (2, 2) if right else (2, 3)
        self.phi = both_signs
        self.conv_in = PaddedConv(2 * filters, filters, size, right=right)
        if shortcut:
            self.map = ChannelMap(2 * shortcut * filters, filters)
        self.dropout = nn.Dropout2d(0.5)
        self.conv_out = PaddedConv(2 * filters, 2 * filters, size, right=right)

    def forward(self, x, a=None):
        y = self.conv_in(self.phi(x))
        if a is not None:
            y += self.map(self.phi(a))
        y = self.conv_out(self.dropout(self.phi(y)))
        value, door = torch.chunk(y, 2, dim=1)
        gated = value * F.sigmoid(door)
        return x + gated


class PortPP(nn.Module):
    """A PixelCNN++ of two resolutions, built like the popular port."""

    def __init__(self, filters=4, resnets=1, channels=3, mixtures=2):
        super().__init__()
        self.first_u = MovedConv(channels + 1, filters, (2, 3), right=False)
        self.first_above = MovedConv(channels + 1, filters, (1, 3), right=False)
        self.first_left = MovedConv(channels + 1, filters, (2, 1), right=True)
        self.up_u, self.up_ul, self.down_u, self.down_ul = (
            nn.ModuleList(
                nn.ModuleList(GatedResnet(filters, right, shortcut) for _ in range(resnets + extra * i))
                for i in range(2)
            )
            for right, shortcut, extra in ((False, 0, 0), (True, 1, 0), (False, 1, 1), (True, 2, 1))
        )
        self.smaller_u = PaddedConv(filters, filters, stride=2)
        self.smaller_ul = PaddedConv(filters, filters, (2, 2), 2, right=True)
        self.larger_u = CroppedDeconv(filters, filters)
        self.larger_ul = CroppedDeconv(filters, filters, (2, 2), right=True)
        self.last = ChannelMap(filters, 10 * mixtures)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        us, uls = [self.first_u(x)], [self.first_above(x) + self.first_left(x)]
        for level in range(2):
            if level:
                us.append(self.smaller_u(us[-1]))
                uls.append(self.smaller_ul(uls[-1]))
            for u_block, ul_block in zip(self.up_u[level], self.up_ul[level], strict=True):
                us.append(u_block(us[-1]))
                uls.append(ul_block(uls[-1], us[-1]))
        u, ul = us.pop(), uls.pop()
        for level in range(2):
            if level:
                u, ul = self.larger_u(u), self.larger_ul(ul)
            for u_block, ul_block in zip(self.down_u[level], self.down_ul[level], strict=True):
                u = u_block(u, us.pop())
                ul = ul_block(ul, torch.cat([u, uls.pop()], 1))
        return self.last(F.elu(ul))
