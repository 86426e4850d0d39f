"""Gated PixelCNN: two convolutional stacks without a blind spot.

Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.nn import GatedActivation, MaskedConv2d, ShiftedConv2d
from genfast.ops.masked_conv import MaskType
from genfast.sampling import Program, ProgramBuilder, Tap
from genfast.sampling.lowering import colour_order, masked_convolution, shifted_convolution


class GatedBlock(nn.Module):
    """One layer of both stacks (figure 2 of the paper).

    The vertical stack sees all rows up to its own; the horizontal stack sees its own row up to the
    pixel and, through the link, the vertical stack one row further up. The link is taken before the
    vertical gate. Only the horizontal stack has a residual connection, and the first block, whose
    horizontal input is the image itself, has none: it would show the pixel its own value.

    Args:
        in_channels: of both inputs.
        channels: of both outputs.
        kernel_size: odd.
        mask_type: "A" in the first block, "B" in all others.
        colors: number of colour groups of the horizontal stack.
        num_classes: adds a bias per class to both gates if positive.
        last: no block follows, so the vertical output is not computed.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        *,
        mask_type: MaskType,
        colors: int,
        num_classes: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.residual = mask_type == "B"
        self.last = last
        wide = 2 * channels
        self.vertical = ShiftedConv2d(
            in_channels, wide, (kernel_size // 2 + 1, kernel_size), shift="down"
        )
        self.link = nn.Conv2d(wide, wide, 1, bias=False)
        self.horizontal = MaskedConv2d(
            in_channels, wide, (1, kernel_size), mask_type=mask_type, colors=colors, out_splits=2
        )
        self.out = MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors)
        self.gate = GatedActivation()
        self.vertical_class = nn.Embedding(num_classes, wide) if num_classes and not last else None
        self.horizontal_class = nn.Embedding(num_classes, wide) if num_classes else None

    def forward(self, v: Tensor, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        # The image has too few channels to carry a memory format; from here on it is channels-last.
        v_sum = self.vertical(v).contiguous(memory_format=torch.channels_last)
        link = self.link(F.pad(v_sum, (0, 0, 1, -1)))  # shifted down: row r gets row r - 1
        if self.horizontal_class is not None:
            link = link + self.horizontal_class(labels)[:, :, None, None]
        h_sum = self.horizontal(h).contiguous(memory_format=torch.channels_last)
        h_out = self.out(self.gate(h_sum, link))
        if self.residual:
            h_out = h_out + h
        if self.last:
            return v, h_out
        bias = None if self.vertical_class is None else self.vertical_class(labels)[:, :, None, None]
        return self.gate(v_sum, bias), h_out

    def lower(self, builder: ProgramBuilder, name: str, v: Tap, h: Tap, colours: int) -> tuple[Tap, Tap]:
        """The block as instructions of a pixel program.

        The gate of the horizontal stack is computed colour by colour, so what is added to it comes in
        that order.
        """
        vertical, link = self.vertical, self.link.weight[:, :, 0, 0]
        wide, order = len(link), colour_order(len(link), colours, 2).to(link.device)
        v_sum = shifted_convolution(
            builder, f"{name}.vertical", v, vertical.weight, vertical.bias, shift="down"
        )
        h_class = (
            [] if self.horizontal_class is None else [builder.vector(f"{name}.horizontal_class", wide)]
        )
        from_above = builder.compute(f"{name}.link", [v_sum.at(-1, 0)], link[order], before=h_class)
        if not self.last:
            v_class = (
                [] if self.vertical_class is None else [builder.vector(f"{name}.vertical_class", wide)]
            )
            v = builder.compute(f"{name}.gate", before=[v_sum, *v_class], function="gate")
        gated = masked_convolution(
            builder,
            f"{name}.horizontal",
            h,
            self.horizontal.weight,
            self.horizontal.bias,
            mask_type=self.horizontal.mask_type,
            colours=colours,
            function="gate",
            before=from_above,
        )
        h = masked_convolution(
            builder,
            f"{name}.out",
            gated,
            self.out.weight,
            self.out.bias,
            mask_type="B",
            colours=colours,
            function="relu" if self.last else "identity",  # with which the head begins
            before=h if self.residual else None,
        )
        return v, h

    def class_vectors(self, name: str, labels: Tensor, colours: int) -> dict[str, Tensor]:
        """The inputs of `lower`'s instructions by name, (N, 2 * channels) each."""
        vectors = {}
        if self.vertical_class is not None:
            vectors[f"{name}.vertical_class"] = self.vertical_class(labels)
        if self.horizontal_class is not None:
            vector = self.horizontal_class(labels)
            order = colour_order(vector.shape[1], colours, 2).to(labels.device)
            vectors[f"{name}.horizontal_class"] = vector[:, order]
        return vectors


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN with a softmax over the levels, or one Bernoulli logit if there are two.

    Args:
        image_shape: (C, H, W); more than one channel are colours in their order, each seeing those
            before it at its own pixel.
        levels: values a colour can take; the network sees 2x / (levels - 1) - 1.
        channels: feature maps of each stack, and width of the head; at least C.
        layers: blocks, the first with a 7x7 kernel and mask A, the others with 3x3 and mask B.
        num_classes: 0, or the number of classes that both stacks are conditioned on in every block.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.GatedPixelCNN((1, 4, 4), levels=2, channels=8, layers=2)
    >>> x = torch.randint(2, (5, 1, 4, 4))
    >>> model.log_prob(x).shape, model.loss(x).shape
    (torch.Size([5]), torch.Size([]))
    >>> model.sample(3, seed=1).shape
    torch.Size([3, 1, 4, 4])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        channels: int = 64,
        layers: int = 8,
        num_classes: int = 0,
    ) -> None:
        super().__init__(image_shape, levels, num_classes)
        colors = self.image_shape[0]
        if channels < colors:
            raise ValueError(
                f"channels must be at least the {colors} colours of the image, got {channels}"
            )
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "channels": channels,
            "layers": layers,
            "num_classes": num_classes,
        }
        self.blocks = nn.ModuleList(
            GatedBlock(
                colors if i == 0 else channels,
                channels,
                7 if i == 0 else 3,
                mask_type="A" if i == 0 else "B",
                colors=colors,
                num_classes=num_classes,
                last=i == layers - 1,
            )
            for i in range(layers)
        )
        outputs = colors * self.outputs_per_colour
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors),
            nn.ReLU(),
            MaskedConv2d(channels, outputs, 1, mask_type="B", colors=colors),
        )

    def network(self, x: Tensor, labels: Tensor | None) -> Tensor:
        v = h = x
        for block in self.blocks:
            v, h = block(v, h, labels)
        return self.head(h)  # type: ignore[no-any-return]

    def pixel_program(self) -> Program:
        colours = self.image_shape[0]
        builder = ProgramBuilder(self.image_shape, self.levels)
        v = h = builder.image
        for i, block in enumerate(self.blocks):
            assert isinstance(block, GatedBlock)
            v, h = block.lower(builder, f"blocks.{i}", v, h, colours)
        for i in (1, 3):
            layer = self.head[i]
            assert isinstance(layer, MaskedConv2d)
            h = masked_convolution(
                builder, f"head.{i}", h, layer.weight, layer.bias,
                mask_type="B", colours=colours, function="relu" if i == 1 else "identity",
            )  # fmt: skip
        for colour in range(colours):
            outputs = self.outputs_per_colour
            logits = h[colour * outputs : (colour + 1) * outputs]
            builder.draw(logits, "bernoulli" if self.levels == 2 else "categorical", colour)
        return builder.build()

    def pixel_inputs(self, labels: Tensor | None) -> dict[str, Tensor]:
        vectors: dict[str, Tensor] = {}
        for i, block in enumerate(self.blocks):
            if labels is not None:
                assert isinstance(block, GatedBlock)
                vectors |= block.class_vectors(f"blocks.{i}", labels, self.image_shape[0])
        return vectors
