"""A small network with all that PixelCNN++ asks of a pixel program, and its lowering.

Two streams over three levels with shortcuts, concat_elu, gated residual blocks, shifted, strided and
transposed convolutions, the channel of ones, and a mixture of logistics drawn as one event.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.nn import ShiftedConv2d, ShiftedConvTranspose2d
from genfast.sampling import Program, ProgramBuilder, Tap
from genfast.sampling.lowering import shifted_convolution, shifted_convolution_transpose


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1))


class GatedResnet(nn.Module):
    def __init__(self, filters: int, shift: str, extra: int, classes: int) -> None:
        super().__init__()
        kernel = (2, 3) if shift == "down" else (2, 2)
        self.shift, self.filters = shift, filters
        self.first = ShiftedConv2d(2 * filters, filters, kernel, shift=shift)
        self.nin = nn.Conv2d(2 * extra * filters, filters, 1) if extra else None
        self.second = ShiftedConv2d(2 * filters, 2 * filters, kernel, shift=shift)
        self.of_class = nn.Embedding(classes, 2 * filters)

    def forward(self, x: Tensor, labels: Tensor, *extra: Tensor) -> Tensor:
        c = self.first(concat_elu(x))
        if self.nin is not None:
            c = c + self.nin(concat_elu(torch.cat(extra, 1)))
        c = self.second(concat_elu(c)) + self.of_class(labels)[:, :, None, None]
        p, q = c.chunk(2, 1)
        return x + p * torch.sigmoid(q)


class ToyPixelCNNPP(nn.Module):
    def __init__(self, image_shape, levels, mixtures=2, filters=5, resnets=1, depth=3, classes=3):
        super().__init__()
        self.image_shape, self.levels, self.filters, self.depth = image_shape, levels, filters, depth
        colours, f = image_shape[0], filters
        self.u_first = ShiftedConv2d(colours + 1, f, (2, 3), shift="down")
        self.ul_first = nn.ModuleList(
            [
                ShiftedConv2d(colours + 1, f, (1, 3), shift="down"),
                ShiftedConv2d(colours + 1, f, (2, 1), shift="down_right"),
            ]
        )
        self.up, self.down = (
            nn.ModuleList(
                nn.ModuleList(
                    nn.ModuleList(
                        [
                            GatedResnet(f, "down", n, classes),
                            GatedResnet(f, "down_right", n + 1, classes),
                        ]
                    )
                    for _ in range(resnets + (n == 1 and level > 0))
                )
                for level in range(depth)
            )
            for n in (0, 1)
        )
        self.smaller = nn.ModuleList(
            nn.ModuleList(
                [
                    ShiftedConv2d(f, f, (2, 3), shift="down", stride=2),
                    ShiftedConv2d(f, f, (2, 2), shift="down_right", stride=2),
                ]
            )
            for _ in range(depth - 1)
        )
        self.larger = nn.ModuleList(
            nn.ModuleList(
                [
                    ShiftedConvTranspose2d(f, f, (2, 3), shift="down", stride=2),
                    ShiftedConvTranspose2d(f, f, (2, 2), shift="down_right", stride=2),
                ]
            )
            for _ in range(depth - 1)
        )
        self.out = nn.Conv2d(f, (10 if colours == 3 else 3) * mixtures, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        u = F.pad(self.u_first(x), (0, 0, 1, -1))
        ul = F.pad(self.ul_first[0](x), (0, 0, 1, -1)) + F.pad(self.ul_first[1](x), (1, -1))
        us, uls = [u], [ul]
        for level in range(self.depth):
            for a, b in self.up[level]:
                u = a(u, labels)
                ul = b(ul, labels, u)
                us.append(u)
                uls.append(ul)
            if level < self.depth - 1:
                u, ul = self.smaller[level][0](u), self.smaller[level][1](ul)
                us.append(u)
                uls.append(ul)
        u, ul = us.pop(), uls.pop()
        for k in range(self.depth):
            for a, b in self.down[k]:
                u = a(u, labels, us.pop())
                ul = b(ul, labels, u, uls.pop())
            if k < self.depth - 1:
                height, width = us[-1].shape[2:]
                u = self.larger[k][0](u)[:, :, :height, :width]
                ul = self.larger[k][1](ul)[:, :, :height, :width]
        return self.out(F.elu(ul))

    # ---- as a pixel program ----

    def program(self, *, split: bool = True) -> Program:
        builder = ProgramBuilder(self.image_shape, self.levels)
        self.active: dict[Tap, Tap] = {}

        def conv(name: str, module: ShiftedConv2d, x, **keywords) -> Tap:
            return shifted_convolution(
                builder, name, x, module.weight, module.bias,
                shift=module.shift, stride=module.stride[0], **keywords,
            )  # fmt: skip

        def larger(name: str, module: ShiftedConvTranspose2d, x: Tap) -> Tap:
            return shifted_convolution_transpose(
                builder, name, x, module.weight, module.bias, shift=module.shift
            )

        def phi(x: Tap) -> Tap:
            if x not in self.active:
                self.active[x] = builder.compute(
                    "concat_elu", before=[x], function="concat_elu", level=builder.level(x)
                )
            return self.active[x]

        def resnet(name: str, module: GatedResnet, x: Tap, *extra: Tap) -> Tap:
            also, bias, f = [], module.first.bias, self.filters
            if module.nin is not None:
                weight = module.nin.weight[:, :, 0, 0].unflatten(1, (2, len(extra), f))
                also = [(phi(e), weight[:, :, i].flatten(1)) for i, e in enumerate(extra)]
                bias = bias + module.nin.bias
            c = shifted_convolution(
                builder, f"{name}.first", phi(x), module.first.weight, bias,
                shift=module.shift, also=also, function="concat_elu",
            )  # fmt: skip
            label = builder.vector(f"{name}.of_class", 2 * f)
            return conv(f"{name}.second", module.second, c, before=[label], after=[x], function="glu")

        x = [builder.image, builder.ones()]
        u = builder.compute("u", before=[conv("u_first", self.u_first, x).at(-1, 0)])
        above, left = (conv(f"ul_first.{i}", self.ul_first[i], x) for i in (0, 1))
        ul = builder.compute("ul", before=[above.at(-1, 0), left.at(0, -1)])
        us, uls = [u], [ul]
        for level in range(self.depth):
            for i, (a, b) in enumerate(self.up[level]):
                u = resnet(f"up.{level}.{i}.0", a, u)
                ul = resnet(f"up.{level}.{i}.1", b, ul, u)
                us.append(u)
                uls.append(ul)
            if level < self.depth - 1:
                u = conv(f"smaller.{level}.0", self.smaller[level][0], u)
                ul = conv(f"smaller.{level}.1", self.smaller[level][1], ul)
                us.append(u)
                uls.append(ul)
        u, ul = us.pop(), uls.pop()
        for k in range(self.depth):
            for i, (a, b) in enumerate(self.down[k]):
                u = resnet(f"down.{k}.{i}.0", a, u, us.pop())
                ul = resnet(f"down.{k}.{i}.1", b, ul, u, uls.pop())
            if k < self.depth - 1:
                u = larger(f"larger.{k}.0", self.larger[k][0], u)
                ul = larger(f"larger.{k}.1", self.larger[k][1], ul)
        active = builder.compute("elu", before=[ul], function="elu")
        parameters = builder.compute("out", [active], self.out.weight[:, :, 0, 0], self.out.bias)
        builder.draw(parameters, "logistic_mixture")
        return builder.build(split=split)

    def inputs(self, labels: Tensor) -> dict[str, Tensor]:
        return {
            f"{name}.of_class": module.of_class(labels)
            for name, module in self.named_modules()
            if isinstance(module, GatedResnet)
        }
