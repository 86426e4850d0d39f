"""PixelCNN: masked convolutions in residual blocks.

Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), sections 3.2-3.5, figure 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.models.autoregressive.lowering import lower_head, masked_layer, relu
from genfast.nn import MaskedConv2d
from genfast.sampling import Program, ProgramBuilder, Tap
from genfast.sampling.program import Function


class ResidualBlock(nn.Module):
    """x + (1x1 to half the channels, 3x3, 1x1 back), a ReLU before each convolution, all mask B.

    Args:
        channels: of input and output; at least twice the colours.
        colors: number of colour groups.
        num_classes: adds a vector per class to the 3x3 convolution if positive.
    """

    def __init__(self, channels: int, colors: int, num_classes: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = MaskedConv2d(channels, half, 1, mask_type="B", colors=colors)
        self.spatial = MaskedConv2d(half, half, 3, mask_type="B", colors=colors)
        self.expand = MaskedConv2d(half, channels, 1, mask_type="B", colors=colors)
        self.by_class = nn.Embedding(num_classes, half) if num_classes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        y = self.spatial(self.reduce(x.relu()).relu())
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        expanded: Tensor = self.expand(y.relu())
        return x + expanded

    def lower(self, builder: ProgramBuilder, name: str, x: Tap, active: Tap, last: bool) -> Tap:
        """The block as instructions of a pixel program.

        Args:
            x, active: the input and its ReLU.
            last: whether to apply the ReLU with which the head begins.
        """
        by_class = None
        if self.by_class is not None:
            by_class = builder.vector(f"{name}.by_class", self.by_class.embedding_dim)
        y = masked_layer(builder, f"{name}.reduce", self.reduce, active, function="relu")
        y = masked_layer(builder, f"{name}.spatial", self.spatial, y, function="relu", before=by_class)
        return masked_layer(
            builder, f"{name}.expand", self.expand, y, function="relu" if last else "identity", before=x
        )


class PixelCNN(AutoregressiveModel):
    """PixelCNN with a softmax over the levels, or one Bernoulli logit if there are two.

    Its receptive field has a blind spot: above the pixel's own row it widens to the right by one
    column a row and block only, so part of the upper right is never seen. `GatedPixelCNN` has none.

    Args:
        image_shape: (C, H, W); more than one channel are colours in their order, each seeing those
            before it at its own pixel.
        levels: values a colour can take; the network sees 2x / (levels - 1) - 1.
        channels: feature maps (2h in the paper), and width of the head; at least 2C.
        layers: residual blocks after the first, 7x7, convolution.
        num_classes: 0, or the number of classes that every block is conditioned on.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.PixelCNN((3, 4, 4), levels=8, channels=12, layers=2)
    >>> x = torch.randint(8, (5, 3, 4, 4))
    >>> model.log_prob(x).shape, model.loss(x).shape
    (torch.Size([5]), torch.Size([]))
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "channels": "feature maps; half as many inside a block",
        "layers": "residual blocks after the first convolution",
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        channels: int = 64,
        layers: int = 7,
        num_classes: int = 0,
    ) -> None:
        super().__init__(image_shape, levels, num_classes)
        colors = self.image_shape[0]
        if channels < 2 * colors:
            raise ValueError(
                f"channels must be at least twice the {colors} colours of the image, got {channels}"
            )
        if layers < 0:
            raise ValueError(f"layers must be at least 0, got {layers}")
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "channels": channels,
            "layers": layers,
            "num_classes": num_classes,
        }
        self.first = MaskedConv2d(colors, channels, 7, mask_type="A", colors=colors)
        self.blocks = nn.ModuleList(ResidualBlock(channels, colors, num_classes) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors),
            nn.ReLU(),
            MaskedConv2d(channels, self.output_head.outputs, 1, mask_type="B", colors=colors),
        )

    def network(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        # The image has too few channels to carry a memory format; from here on it is channels-last.
        y = self.first(x).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            y = block(y, labels)
        return self.head(y)  # type: ignore[no-any-return]

    def pixel_program(self) -> Program:
        builder = ProgramBuilder(self.image_shape, self.levels)
        layers, colours = len(self.blocks), self.image_shape[0]
        function: Function = "identity" if layers else "relu"
        x = masked_layer(builder, "first", self.first, builder.image, function=function)
        for i, block in enumerate(cast("Iterable[ResidualBlock]", self.blocks)):
            active = relu(builder, f"blocks.{i}.relu", x, colours)
            x = block.lower(builder, f"blocks.{i}", x, active, last=i == layers - 1)
        lower_head(builder, self.head, x, self.output_head)
        return builder.build()

    def pixel_inputs(
        self, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        if labels is None:
            return {}
        return {
            f"blocks.{i}.by_class": block.by_class(labels)
            for i, block in enumerate(cast("Iterable[ResidualBlock]", self.blocks))
            if block.by_class is not None
        }
