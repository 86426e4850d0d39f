"""Gated PixelCNN: two convolutional stacks without a blind spot.

Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.nn import GatedActivation, MaskedConv2d, ShiftedConv2d
from genfast.ops.masked_conv import MaskType

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


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN with a softmax over the levels, or one Bernoulli logit if there are two.

    Above the image there is nothing, which two conventions tell row 0 in different ways; elsewhere
    they differ only in that the first vertical kernel has 4 rows ("zero") or 3 ("bias"). Weights of
    one convention are of no use to the other.

    Args:
        image_shape: (C, H, W); more than one channel are colours in their order, each seeing those
            before it at its own pixel.
        levels: values a colour can take; the network sees 2x / (levels - 1) - 1.
        channels: feature maps of each stack, and width of the head; at least C.
        layers: blocks, the first with a 7x7 kernel and mask A, the others with 3x3 and mask B.
        num_classes: 0, or the number of classes that both stacks are conditioned on in every block.
        condition_channels: 0, or the channels of a map of the image's size that both stacks are
            conditioned on in every block.
        border: "zero": each link is shifted down a row and row 0 gets zeros (the paper). "bias": the
            first vertical kernel ends a row above instead, and row 0 gets what the vertical stack
            makes of an empty image.
        skip: the head sees the sum of an output of every block instead of the last block's.

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

    SETTINGS: ClassVar[dict[str, str]] = {
        "channels": "feature maps of each stack, and width of the head",
        "layers": "gated blocks, the first one with its 7x7 kernel included",
        "border": "what row 0 gets from above: zero or bias",
        "skip": "the head sees the sum of an output of every block",
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        channels: int = 64,
        layers: int = 8,
        num_classes: int = 0,
        condition_channels: int = 0,
        border: Border = "zero",
        skip: bool = False,
    ) -> None:
        super().__init__(image_shape, levels, num_classes, condition_channels)
        colors = self.image_shape[0]
        if channels < colors:
            raise ValueError(
                f"channels must be at least the {colors} colours of the image, got {channels}"
            )
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if border not in ("zero", "bias"):
            raise ValueError(f"border must be 'zero' or 'bias', got {border!r}")
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "channels": channels,
            "layers": layers,
            "num_classes": num_classes,
            "condition_channels": condition_channels,
            "border": border,
            "skip": skip,
        }
        self.blocks = nn.ModuleList(
            GatedBlock(
                colors if i == 0 else channels,
                channels,
                7 if i == 0 else 3,
                mask_type="A" if i == 0 else "B",
                colors=colors,
                num_classes=num_classes,
                condition_channels=condition_channels,
                border=border,
                skip=skip,
                last=i == layers - 1,
            )
            for i in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors),
            nn.ReLU(),
            MaskedConv2d(channels, self.output_head.outputs, 1, mask_type="B", colors=colors),
        )

    def network(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        v = h = x
        skips = []
        for block in self.blocks:
            v, h, skip = block(v, h, labels, condition)
            skips.append(skip)
        return self.head(sum(skips) if self.config["skip"] else h)  # type: ignore[no-any-return]


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
