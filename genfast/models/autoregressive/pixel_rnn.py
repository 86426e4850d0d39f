"""PixelRNN: residual layers of Row LSTMs or Diagonal BiLSTMs.

Source: van den Oord et al., "Pixel Recurrent Neural Networks" (2016), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.models.autoregressive.lowering import lower_head, masked_layer
from genfast.nn import DiagonalBiLSTM, DiagonalLSTM, MaskedConv2d, RowLSTM
from genfast.ops.lstm_scan import Saved
from genfast.sampling import Program, ProgramBuilder, Tap
from genfast.sampling.lowering import diagonal_lstm, row_lstm
from genfast.sampling.program import Function

Variant = Literal["row", "diagonal"]


class RecurrentLayer(nn.Module):
    """A scan from 2h to h features, and 1x1 convolutions of mask B back to 2h.

    Args:
        hidden: h, units of an LSTM; at least one a colour.
        variant: "row" for a Row LSTM, "diagonal" for a Diagonal BiLSTM.
        colors: number of colour groups.
        residual: whether there is an `up`, which is added to the layer's input.
        skip: whether there is a `skip`, for the head.
        saved: what the scans keep for the backward.
    """

    def __init__(
        self, hidden: int, *, variant: Variant, colors: int, residual: bool, skip: bool, saved: Saved
    ) -> None:
        super().__init__()
        scan = RowLSTM if variant == "row" else DiagonalBiLSTM
        self.scan = scan(2 * hidden, hidden, colors=colors, saved=saved)
        self.up, self.skip = (
            MaskedConv2d(hidden, 2 * hidden, 1, mask_type="B", colors=colors) if there else None
            for there in (residual, skip)
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The input of the next layer, and the sum of the skips so far."""
        y = self.scan(x)
        if self.up is not None:
            x = x + self.up(y)
        if self.skip is not None:
            skip = self.skip(y) if skip is None else skip + self.skip(y)
        return x, skip

    def lower(
        self, builder: ProgramBuilder, name: str, x: Tap, skip: Tap | None, last: bool
    ) -> tuple[Tap, Tap | None]:
        """`forward` as instructions of a pixel program.

        Args:
            last: whether to apply the ReLU with which the head begins.
        """
        y, above = self._lower_scan(builder, f"{name}.scan", x)
        function: Function = "relu" if last else "identity"
        if self.up is not None:
            x = masked_layer(builder, f"{name}.up", self.up, y, function=function, before=x, plus=above)
        if self.skip is not None:
            skip = masked_layer(
                builder, f"{name}.skip", self.skip, y, function=function, before=skip, plus=above
            )
        return x, skip

    def _lower_scan(self, builder: ProgramBuilder, name: str, x: Tap) -> tuple[Tap, list[Tap]]:
        """The scan's output as a tap and what is to be added to it."""
        if isinstance(self.scan, RowLSTM):
            return _lower_one(builder, name, self.scan, x), []
        left = _lower_one(builder, f"{name}.left", self.scan.left, x)
        right = _lower_one(builder, f"{name}.right", self.scan.right, x)
        return left, [right.at(-1, 0)]


def _lower_one(builder: ProgramBuilder, name: str, scan: RowLSTM | DiagonalLSTM, x: Tap) -> Tap:
    gates = scan.input_to_state
    parameters = (gates.weight, gates.bias, scan.weight, scan.h0, scan.c0)
    if isinstance(scan, RowLSTM):
        return row_lstm(builder, name, x, *parameters, colours=gates.colors)
    return diagonal_lstm(builder, name, x, *parameters, reverse=scan.reverse, colours=gates.colors)


class PixelRNN(AutoregressiveModel):
    """PixelRNN with a softmax over the levels, or one Bernoulli logit if there are two.

    What a pixel sees, with L layers: in the diagonal variant all before it but one, the last of the row
    above (of its colours, the last), which it sees from 3 columns away only: the first convolution, of
    mask A, shows that pixel to those after it, and none of them lies on the way. In the row variant a
    triangle: on its own row L + 3 pixels to the left; k rows above, from k + L + 3 columns to the left
    to k + 2 to the right.

    Args:
        image_shape: (C, H, W); more than one channel are colours in their order, each seeing those
            before it at its own pixel.
        levels: values a colour can take; the network sees 2x / (levels - 1) - 1.
        variant: "row" for Row LSTMs, "diagonal" for Diagonal BiLSTMs.
        hidden: units of each LSTM, h; layers pass on 2h feature maps, and the head is as wide. At least
            C.
        layers: recurrent layers after the first, 7x7, convolution.
        num_classes: 0, or the number of classes; each has a vector that is added to the first
            convolution, from where residual connections carry it through all layers.
        skip: the head sees the sum of an output of every layer instead of the last layer's.
        saved: "minimal" or "all", what the scans keep for the backward; see `genfast.ops.row_lstm`.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.PixelRNN((3, 4, 4), levels=8, variant="row", hidden=6, layers=2)
    >>> x = torch.randint(8, (5, 3, 4, 4))
    >>> model.log_prob(x).shape, model.loss(x).shape
    (torch.Size([5]), torch.Size([]))
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "variant": "row: Row LSTMs; diagonal: Diagonal BiLSTMs",
        "hidden": "units of each LSTM; layers pass on twice as many feature maps",
        "layers": "recurrent layers after the first convolution",
        "skip": "the head sees the sum of an output of every layer",
        "saved": "what scans keep for the backward: minimal saves memory, all time",
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        variant: Variant = "diagonal",
        hidden: int = 64,
        layers: int = 7,
        num_classes: int = 0,
        skip: bool = False,
        saved: Saved = "minimal",
    ) -> None:
        super().__init__(image_shape, levels, num_classes)
        colors = self.image_shape[0]
        if variant not in ("row", "diagonal"):
            raise ValueError(f"variant must be 'row' or 'diagonal', got {variant!r}")
        if hidden < colors:
            raise ValueError(f"hidden must be at least the {colors} colours of the image, got {hidden}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if saved not in ("minimal", "all"):
            raise ValueError(f"saved must be 'minimal' or 'all', got {saved!r}")
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "variant": variant,
            "hidden": hidden,
            "layers": layers,
            "num_classes": num_classes,
            "skip": skip,
            "saved": saved,
        }
        width = 2 * hidden
        self.first = MaskedConv2d(colors, width, 7, mask_type="A", colors=colors)
        self.by_class = nn.Embedding(num_classes, width) if num_classes else None
        self.layers = nn.ModuleList(
            RecurrentLayer(
                hidden,
                variant=variant,
                colors=colors,
                residual=not skip or i < layers - 1,
                skip=skip,
                saved=saved,
            )
            for i in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(width, width, 1, mask_type="B", colors=colors),
            nn.ReLU(),
            MaskedConv2d(width, self.output_head.outputs, 1, mask_type="B", colors=colors),
        )

    def network(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        # The image has too few channels to carry a memory format; from here on it is channels-last.
        y = self.first(x).contiguous(memory_format=torch.channels_last)
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        skip = None
        for layer in self.layers:
            y, skip = layer(y, skip)
        return self.head(y if skip is None else skip)  # type: ignore[no-any-return]

    def pixel_program(self) -> Program:
        builder = ProgramBuilder(self.image_shape, self.levels)
        by_class, skip = None, None
        if self.by_class is not None:
            by_class = builder.vector("by_class", self.by_class.embedding_dim)
        x = masked_layer(builder, "first", self.first, builder.image, before=by_class)
        for i, layer in enumerate(cast("Iterable[RecurrentLayer]", self.layers)):
            x, skip = layer.lower(builder, f"layers.{i}", x, skip, i == len(self.layers) - 1)
        lower_head(builder, self.head, x if skip is None else skip, self.output_head)
        return builder.build()

    def pixel_inputs(
        self, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        return {} if self.by_class is None else {"by_class": self.by_class(labels)}
