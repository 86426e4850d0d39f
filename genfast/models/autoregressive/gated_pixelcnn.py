"""Gated PixelCNN: two convolutional stacks without a blind spot.

Source: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.models.autoregressive.gated_block import Border, GatedBlock
from genfast.models.autoregressive.lowering import lower_head
from genfast.nn import MaskedConv2d
from genfast.sampling import Program, ProgramBuilder, Tap


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

    def pixel_program(self) -> Program:
        builder = ProgramBuilder(self.image_shape, self.levels)
        channels = self.condition_channels
        condition = builder.map("condition", channels) if channels else None
        v = h = builder.image
        skip: Tap | None = None
        for i, block in enumerate(cast("Iterable[GatedBlock]", self.blocks)):
            v, h, skip = block.lower(builder, f"blocks.{i}", v, h, skip, condition)
        lower_head(builder, self.head, h if skip is None else skip, self.output_head)
        return builder.build()

    def pixel_inputs(
        self, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        inputs = {} if condition is None else {"condition": condition}
        if labels is not None:
            for i, block in enumerate(cast("Iterable[GatedBlock]", self.blocks)):
                inputs |= block.class_vectors(f"blocks.{i}", labels)
        return inputs
