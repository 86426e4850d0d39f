"""A small PixelRNN in plain PyTorch, and its lowering to a pixel program.

arXiv 1601.06759: a 7x7 convolution with mask A, residual layers of a Row LSTM or a Diagonal BiLSTM, two
1x1 convolutions. The scans are written as loops over single positions, straight from the equations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genfast.reference import masked_conv2d
from genfast.sampling import Program, ProgramBuilder
from genfast.sampling.lowering import diagonal_lstm, masked_convolution, row_lstm


def lstm(z: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = z.chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def row_scan(gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    """h[r, c] from gates[r, c], h[r - 1, c - 1 .. c + 1] and c[r - 1, c]; states (N, h) by position."""
    n, _, height, width = gates.shape
    zero = gates.new_zeros(n, weight.shape[1])
    above = [(zero + h0[:, c], zero + c0[:, c]) for c in range(width)]
    rows = []
    for r in range(height):
        padded = [zero, *(h for h, _ in above), zero]
        z = [
            gates[:, :, r, c] + sum(padded[c + d] @ weight[:, :, d].t() for d in range(3))
            for c in range(width)
        ]
        above = [lstm(z[c], above[c][1]) for c in range(width)]
        rows.append(torch.stack([h for h, _ in above], 2))
    return torch.stack(rows, 2)


def diagonal_scan(gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool) -> Tensor:
    """h[r, c] from gates[r, c], h[r - 1, c] and the state at c - 1, or at c + 1 if `reverse`."""
    n, _, height, width = gates.shape
    above = [gates.new_zeros(n, weight.shape[1])] * width
    rows = []
    for r in range(height):
        h, cell = (state[r].expand(n, -1) for state in (h0, c0))
        row = list(above)
        for c in reversed(range(width)) if reverse else range(width):
            z = gates[:, :, r, c] + above[c] @ weight[:, :, 0].t() + h @ weight[:, :, 1].t()
            h, cell = lstm(z, cell)
            row[c] = h
        rows.append(torch.stack(row, 2))
        above = row
    return torch.stack(rows, 2)


class Direction(nn.Module):
    """Parameters of one scan: input to state, state to state, states outside the image."""

    def __init__(self, hidden: int, kernel: int, taps: int, outside: tuple[int, int]) -> None:
        super().__init__()
        self.input_weight = nn.Parameter(torch.randn(4 * hidden, 2 * hidden, 1, kernel))
        self.input_bias = nn.Parameter(torch.randn(4 * hidden))
        self.weight = nn.Parameter(torch.randn(4 * hidden, hidden, taps))
        self.h0, self.c0 = (nn.Parameter(torch.randn(outside)) for _ in range(2))
        self.given: tuple[Tensor | None, Tensor | None] = self.h0, self.c0  # as the helpers get them

    @property
    def all(self) -> tuple[Tensor | None, ...]:
        return self.input_weight, self.input_bias, self.weight, *self.given

    def gates(self, x: Tensor, colours: int) -> Tensor:
        return masked_conv2d(
            x, self.input_weight, self.input_bias, mask_type="B", colors=colours, out_splits=4
        )


class ToyPixelRNN(nn.Module):
    """variant: "row", "diagonal", or "left" for the latter without its right-to-left half."""

    def __init__(self, image_shape, levels, variant, hidden=5, layers=2, scale=1.0) -> None:
        super().__init__()
        self.image_shape, self.levels, self.variant = image_shape, levels, variant
        colours, height, width = image_shape
        kernel, taps = (3, 3) if variant == "row" else (1, 2)
        outside = (hidden, width) if variant == "row" else (height, hidden)
        self.first = nn.Conv2d(colours, 2 * hidden, 7)
        directions = 2 if variant == "diagonal" else 1
        self.scans = nn.ModuleList(
            nn.ModuleList(Direction(hidden, kernel, taps, outside) for _ in range(directions))
            for _ in range(layers)
        )
        self.up = nn.ModuleList(nn.Conv2d(hidden, 2 * hidden, 1) for _ in range(layers))
        self.head = nn.ModuleList(
            [nn.Conv2d(2 * hidden, 2 * hidden, 1), nn.Conv2d(2 * hidden, colours * levels, 1)]
        )
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 2 else 4
            values = torch.randn(parameter.shape, generator=generator)
            parameter.requires_grad_(False).copy_(values * scale * (3 / fan_in) ** 0.5)

    def conv(self, layer: nn.Conv2d, x: Tensor, mask_type: str = "B") -> Tensor:
        return masked_conv2d(
            x, layer.weight, layer.bias, mask_type=mask_type, colors=self.image_shape[0]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Levels (N, C, H, W) to the logits of all colours (N, C L, H, W)."""
        x = x.to(self.first.weight.dtype) * (2 / (self.levels - 1)) - 1
        x = self.conv(self.first, x, "A")
        for scans, up in zip(self.scans, self.up, strict=True):
            x = x + self.conv(up, self.hidden(scans, x))
        return self.conv(self.head[1], torch.relu(self.conv(self.head[0], torch.relu(x))))

    def hidden(self, scans: nn.ModuleList, x: Tensor) -> Tensor:
        gates = [scan.gates(x, self.image_shape[0]) for scan in scans]
        states = [(scan.weight, scan.h0, scan.c0) for scan in scans]
        if self.variant == "row":
            return row_scan(gates[0], *states[0])
        y = diagonal_scan(gates[0], *states[0], reverse=False)
        if self.variant == "diagonal":
            right = diagonal_scan(gates[1], *states[1], reverse=True)
            y = y + torch.cat([torch.zeros_like(right[:, :, :1]), right[:, :, :-1]], 2)
        return y

    def program(self, split: bool = True) -> Program:
        builder = ProgramBuilder(self.image_shape, self.levels)
        colours = self.image_shape[0]

        def conv(name, layer, x, mask_type="B", **keywords):
            return masked_convolution(
                builder, name, x, layer.weight, layer.bias,
                mask_type=mask_type, colours=colours, **keywords,
            )  # fmt: skip

        x = conv("first", self.first, builder.image, "A")
        for n, (scans, up) in enumerate(zip(self.scans, self.up, strict=True)):
            lstm = row_lstm if self.variant == "row" else diagonal_lstm
            h = lstm(builder, f"layers.{n}", x, *scans[0].all, colours=colours)
            right = []
            if self.variant == "diagonal":
                scan = diagonal_lstm(
                    builder, f"layers.{n}.right", x, *scans[1].all, reverse=True, colours=colours
                )
                right.append(scan.at(-1, 0))
            last = n == len(self.up) - 1
            x = conv(f"up.{n}", up, h, plus=right, before=x, function="relu" if last else "identity")
        x = conv("head.0", self.head[0], x, function="relu")
        logits = conv("head.1", self.head[1], x)
        for colour in range(colours):
            own = slice(colour * self.levels, (colour + 1) * self.levels)
            builder.draw(logits[own], "categorical", colour)
        return builder.build(split=split)
