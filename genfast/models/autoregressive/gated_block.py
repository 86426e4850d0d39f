"""The block of the Gated PixelCNN: a layer of its vertical and its horizontal stack.

Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.models.autoregressive.lowering import masked_layer
from genfast.nn import GatedActivation, MaskedConv2d, ShiftedConv2d
from genfast.ops.masked_conv import MaskType
from genfast.sampling import ProgramBuilder, Tap
from genfast.sampling.lowering import colour_order, shifted_convolution
from genfast.sampling.program import Function

#: What row 0 gets from the rows above it, of which there are none; see `GatedPixelCNN`.
Border = Literal["zero", "bias"]


class GatedBlock(nn.Module):
    """One layer of both stacks (figure 2 of the paper).

    The vertical stack sees all rows up to its own; the horizontal stack sees its own row up to the
    pixel and, through the link, the vertical stack one row further up. The link is taken before the
    vertical gate. Only the horizontal stack has a residual connection, and the first block, whose
    horizontal input is the image itself, has none: it would show the pixel its own value.

    With border "bias" it is the first block's vertical kernel that stops one row further up, so that
    no link needs a shift.

    Args:
        in_channels: of both inputs.
        channels: of both outputs.
        kernel_size: odd.
        mask_type: "A" in the first block, "B" in all others.
        colors: number of colour groups of the horizontal stack.
        num_classes: adds a bias per class to both gates if positive.
        condition_channels: adds a 1x1 convolution of the condition to both gates if positive.
        border: "zero" or "bias".
        skip: the block also gives an output of its own to the head.
        last: no block follows, so outputs that only a next block would read are not computed.
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
        condition_channels: int,
        border: Border,
        skip: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.residual = mask_type == "B"
        self.last = last
        self.input_shift = border == "bias" and mask_type == "A"
        self.link_shift = border == "zero"
        wide = 2 * channels
        rows = kernel_size // 2 + (0 if self.input_shift else 1)
        self.vertical = ShiftedConv2d(in_channels, wide, (rows, kernel_size), shift="down")
        self.link = nn.Conv2d(wide, wide, 1, bias=False)
        self.horizontal = MaskedConv2d(
            in_channels, wide, (1, kernel_size), mask_type=mask_type, colors=colors, out_splits=2
        )
        self.skip = MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors) if skip else None
        self.out = (
            None if skip and last else MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors)
        )
        self.gate = GatedActivation()
        classes, planes = num_classes, condition_channels
        self.vertical_class = nn.Embedding(classes, wide) if classes and not last else None
        self.horizontal_class = nn.Embedding(classes, wide) if classes else None
        self.vertical_condition = nn.Conv2d(planes, wide, 1, bias=False) if planes and not last else None
        self.horizontal_condition = nn.Conv2d(planes, wide, 1, bias=False) if planes else None

    def forward(
        self, v: Tensor, h: Tensor, labels: Tensor | None, condition: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        # The image has too few channels to carry a memory format; from here on it is channels-last.
        v_sum = self.vertical(_shift_down(v) if self.input_shift else v)
        v_sum = v_sum.contiguous(memory_format=torch.channels_last)
        link = self.link(_shift_down(v_sum) if self.link_shift else v_sum)
        h_given = _given(self.horizontal_class, labels, self.horizontal_condition, condition)
        h_sum = self.horizontal(h).contiguous(memory_format=torch.channels_last)
        gated = self.gate(h_sum, link if h_given is None else link + h_given)
        skip = None if self.skip is None else self.skip(gated)
        if self.out is not None:
            h = self.out(gated) + h if self.residual else self.out(gated)
        if not self.last:
            v = self.gate(v_sum, _given(self.vertical_class, labels, self.vertical_condition, condition))
        return v, h, skip

    def lower(
        self,
        builder: ProgramBuilder,
        name: str,
        v: Tap,
        h: Tap,
        skip: Tap | None = None,
        condition: Tap | None = None,
    ) -> tuple[Tap, Tap, Tap | None]:
        """The block as instructions of a pixel program; `skip` is the sum of those before.

        The gate of the horizontal stack is computed colour by colour, so what is added to it comes in
        that order. The head begins with a ReLU, which the last block takes over.
        """
        vertical, link, colours = self.vertical, self.link.weight[:, :, 0, 0], self.horizontal.colors
        order = colour_order(len(link), colours, 2).to(link.device)
        v_sum = shifted_convolution(
            builder, f"{name}.vertical", v.at(-1, 0) if self.input_shift else v,
            vertical.weight, vertical.bias, shift="down",
        )  # fmt: skip
        above = v_sum.at(-1, 0) if self.link_shift else v_sum
        linked = self._lower_given(
            builder, f"{name}.link", "horizontal", condition, order, product=(above, link[order])
        )
        if not self.last:
            v = self._lower_given(
                builder, f"{name}.gate", "vertical", condition, before=[v_sum], function="gate"
            )
        gated = masked_layer(
            builder, f"{name}.horizontal", self.horizontal, h, function="gate", before=linked
        )
        function: Function = "relu" if self.last else "identity"
        if self.skip is not None:
            skip = masked_layer(
                builder, f"{name}.skip", self.skip, gated, function=function, before=skip
            )
        if self.out is not None:
            h = masked_layer(
                builder, f"{name}.out", self.out, gated,
                function=function, before=h if self.residual else None,
            )  # fmt: skip
        return v, h, skip

    def _lower_given(
        self,
        builder: ProgramBuilder,
        name: str,
        stack: str,
        condition: Tap | None,
        order: Tensor | None = None,
        *,
        product: tuple[Tap, Tensor] | None = None,
        before: Sequence[Tap] = (),
        function: Function = "identity",
    ) -> Tap:
        """function(product + before + what the stack is conditioned on), in an order of its channels."""
        products = [] if product is None else [product]
        by_class, by_pixel = getattr(self, f"{stack}_class"), getattr(self, f"{stack}_condition")
        if by_class is not None:
            before = [*before, builder.vector(f"{name}.{stack}_class", by_class.embedding_dim)]
        if by_pixel is not None:
            assert condition is not None
            weight = by_pixel.weight[:, :, 0, 0]
            products.append((condition, weight if order is None else weight[order]))
        weight = torch.cat([w for _, w in products], 1) if products else None
        return builder.compute(name, [t for t, _ in products], weight, before=before, function=function)

    def class_vectors(self, name: str, labels: Tensor) -> dict[str, Tensor]:
        """The inputs of `lower`'s instructions by name, (N, 2 * channels) each."""
        vectors = {}
        if self.vertical_class is not None:
            vectors[f"{name}.gate.vertical_class"] = self.vertical_class(labels)
        if self.horizontal_class is not None:
            vector = self.horizontal_class(labels)
            order = colour_order(vector.shape[1], self.horizontal.colors, 2).to(labels.device)
            vectors[f"{name}.link.horizontal_class"] = vector[:, order]
        return vectors


def _shift_down(x: Tensor) -> Tensor:
    """Row r gets row r - 1; row 0 gets zeros."""
    return F.pad(x, (0, 0, 1, -1))


def _given(
    by_class: nn.Embedding | None,
    labels: Tensor | None,
    by_pixel: nn.Conv2d | None,
    condition: Tensor | None,
) -> Tensor | None:
    """What a gate is conditioned on: the class's vector plus the condition's 1x1 convolution."""
    vector: Tensor | None = None if by_class is None else by_class(labels)[:, :, None, None]
    if by_pixel is None:
        return vector
    plane: Tensor = by_pixel(condition)
    return plane if vector is None else plane + vector
