"""PixelCNN++: gated residual networks at several resolutions and a mixture of logistics.

Source: Salimans et al., "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood
and Other Modifications" (2017), and the official code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.models.autoregressive.heads import LogisticMixtureHead
from genfast.models.autoregressive.pixelcnn_pp_lowering import pixel_program
from genfast.nn import WeightNormConv2d, WeightNormConvTranspose2d, initialised_from_data
from genfast.ops.masked_conv import Shift
from genfast.sampling import Program

#: Kernels of the two streams: "down" sees the rows above, "down_right" also what lies to the left.
KERNELS: dict[Shift, tuple[int, int]] = {"down": (2, 3), "down_right": (2, 2)}


def concat_elu(x: Tensor) -> Tensor:
    """elu of x and of -x: twice the channels.

    >>> import torch
    >>> from genfast.models.autoregressive.pixelcnn_pp import concat_elu
    >>> concat_elu(torch.ones(1, 1)).shape
    torch.Size([1, 2])
    """
    return F.elu(torch.cat([x, -x], 1))


class GatedResnet(nn.Module):
    """x + p sigmoid(q), where p, q are the halves of two convolutions of x.

    Args:
        filters: channels of x and of the result.
        shift: of both convolutions.
        shortcut: channels of the second input `a`; 0 if there is none.
        num_classes: adds a vector per class to p, q if positive.
        dropout: probability of an element to be dropped between the convolutions.
    """

    def __init__(
        self, filters: int, shift: Shift, *, shortcut: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        kernel, wide = KERNELS[shift], 2 * filters
        self.conv_in = WeightNormConv2d(wide, filters, kernel, shift=shift)
        self.shortcut = WeightNormConv2d(2 * shortcut, filters, (1, 1)) if shortcut else None
        self.dropout = nn.Dropout(dropout)
        self.conv_out = WeightNormConv2d(wide, wide, kernel, shift=shift, init_scale=0.1)
        self.by_class = nn.Embedding(num_classes, wide) if num_classes else None
        if self.by_class is not None:
            nn.init.normal_(self.by_class.weight, 0, 0.05)

    def forward(self, x: Tensor, a: Tensor | None, labels: Tensor | None) -> Tensor:
        y = self.conv_in(concat_elu(x))
        if self.shortcut is not None and a is not None:
            y = y + self.shortcut(concat_elu(a))
        y = self.conv_out(self.dropout(concat_elu(y)))
        if self.by_class is not None:
            y = y + self.by_class(labels)[:, :, None, None]
        p, q = y.chunk(2, 1)
        result: Tensor = x + p * q.sigmoid()
        return result


class Level(nn.Module):
    """The gated residual networks of both streams at one resolution, and the way to it.

    Args:
        resnets: of each stream.
        filters, num_classes, dropout: see `GatedResnet`.
        shortcuts: channels of the second inputs in the streams u, ul.
        entry: the convolution of stride 2 by which both streams come here; None at the first level.
    """

    def __init__(
        self,
        resnets: int,
        filters: int,
        *,
        shortcuts: tuple[int, int],
        entry: type[WeightNormConv2d] | type[WeightNormConvTranspose2d] | None,
        num_classes: int,
        dropout: float,
    ) -> None:
        super().__init__()

        def stream(shift: Shift, shortcut: int) -> nn.ModuleList:
            return nn.ModuleList(
                GatedResnet(filters, shift, shortcut=shortcut, num_classes=num_classes, dropout=dropout)
                for _ in range(resnets)
            )

        def entered(shift: Shift) -> nn.Module | None:
            if entry is None:
                return None
            return entry(filters, filters, KERNELS[shift], shift=shift, stride=2)

        self.entry_u, self.entry_ul = entered("down"), entered("down_right")
        self.u, self.ul = stream("down", shortcuts[0]), stream("down_right", shortcuts[1])

    def enter(self, u: Tensor, ul: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams at this level's resolution."""
        if self.entry_u is None or self.entry_ul is None:
            return u, ul
        return self.entry_u(u), self.entry_ul(ul)


class PixelCNNPP(AutoregressiveModel):
    """PixelCNN++: a discretised mixture of logistics over the colours of a pixel at once.

    Two streams, `u` of the rows above and `ul` of what lies above and to the left, go to ever coarser
    resolutions and back, where each layer meets what the encoder left at its size. Of an odd size the
    coarser map has the larger half; upsampled it is cropped to what it meets. Weights are normalised
    per output channel; `initialise_from_data` sets gains and biases by a first batch.

    Args:
        image_shape: (C, H, W) with C of 1 or 3.
        levels: values a colour can take; the network sees 2x / (levels - 1) - 1.
        filters: channels of each stream.
        resnets: gated residual networks of a stream at each resolution of the encoder.
        resolutions: of which each has half the size of the one before.
        mixtures: components of the mixture.
        num_classes: 0, or the number of classes that every gated residual network is conditioned on.
        dropout: probability of an element to be dropped in training, within each of them.

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.PixelCNNPP((3, 5, 4), levels=256, filters=8, resnets=1, mixtures=2)
    >>> x = torch.randint(256, (5, 3, 5, 4))
    >>> model.initialise_from_data(x)
    >>> model.pixel_log_prob(x).shape, model.log_prob(x).shape
    (torch.Size([5, 1, 5, 4]), torch.Size([5]))
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        "filters": "channels of each stream",
        "resnets": "gated residual networks at each resolution",
        "resolutions": "resolutions, each of half the size of the one before",
        "mixtures": "components of the mixture of logistics",
        "dropout": "probability of an element to be dropped in training",
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        filters: int = 160,
        resnets: int = 5,
        resolutions: int = 3,
        mixtures: int = 10,
        num_classes: int = 0,
        dropout: float = 0.5,
    ) -> None:
        head = LogisticMixtureHead(image_shape[0], levels, mixtures)
        super().__init__(image_shape, levels, num_classes, head=head)
        for name, value in (("filters", filters), ("resnets", resnets), ("resolutions", resolutions)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "filters": filters,
            "resnets": resnets,
            "resolutions": resolutions,
            "mixtures": mixtures,
            "num_classes": num_classes,
            "dropout": dropout,
        }

        inputs = self.image_shape[0] + 1  # and one of ones, which tells the image from the padding
        self.first_u = WeightNormConv2d(inputs, filters, (2, 3), shift="down")
        self.first_ul_above = WeightNormConv2d(inputs, filters, (1, 3), shift="down")
        self.first_ul_left = WeightNormConv2d(inputs, filters, (2, 1), shift="down_right")
        self.encoder = nn.ModuleList(
            Level(
                resnets,
                filters,
                shortcuts=(0, filters),
                entry=WeightNormConv2d if i else None,
                num_classes=num_classes,
                dropout=dropout,
            )
            for i in range(resolutions)
        )
        self.decoder = nn.ModuleList(
            Level(
                resnets + 1
                if i
                else resnets,  # a level of the encoder leaves as many maps, and its entry
                filters,
                shortcuts=(filters, 2 * filters),
                entry=WeightNormConvTranspose2d if i else None,
                num_classes=num_classes,
                dropout=dropout,
            )
            for i in range(resolutions)
        )
        self.last = WeightNormConv2d(filters, self.output_head.outputs, (1, 1))

    def network(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        # The image has too few channels to carry a memory format; from here on it is channels-last.
        u = _shift_down(self.first_u(x)).contiguous(memory_format=torch.channels_last)
        ul = _shift_down(self.first_ul_above(x)) + _shift_right(self.first_ul_left(x))
        left = self._encode(u, ul.contiguous(memory_format=torch.channels_last), labels)
        return self.last(F.elu(self._decode(left, labels)))  # type: ignore[no-any-return]

    def _encode(self, u: Tensor, ul: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Both streams after every layer, from the finest resolution to the coarsest."""
        left = []
        for level in cast("Iterable[Level]", self.encoder):
            u, ul = level.enter(u, ul)
            left.append((u, ul))
            for resnet_u, resnet_ul in zip(level.u, level.ul, strict=True):
                u = resnet_u(u, None, labels)
                ul = resnet_ul(ul, u, labels)
                left.append((u, ul))
        return left

    def _decode(self, left: list[tuple[Tensor, Tensor]], labels: Tensor | None) -> Tensor:
        """The stream `ul` back at the finest resolution, from what the encoder left."""
        u, ul = left.pop()
        for level in cast("Iterable[Level]", self.decoder):
            u, ul = level.enter(u, ul)
            for resnet_u, resnet_ul in zip(level.u, level.ul, strict=True):
                u_left, ul_left = left.pop()
                height, width = u_left.shape[2:]  # an odd one is less than twice the coarser one
                u = resnet_u(u[:, :, :height, :width], u_left, labels)
                ul = resnet_ul(ul[:, :, :height, :width], torch.cat([u, ul_left], 1), labels)
        return ul

    def pixel_program(self) -> Program:
        return pixel_program(self)

    def pixel_inputs(
        self, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        if labels is None:
            return {}
        return {
            f"{name}.by_class": module.by_class(labels)
            for name, module in self.named_modules()
            if isinstance(module, GatedResnet) and module.by_class is not None
        }

    def initialise_from_data(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> None:
        """Sets gains and biases so that every convolution gives this batch mean 0 and deviation 1.

        The last convolution of each gated residual network gets a deviation of 0.1. Dropout is as the
        module's mode has it (the official code has it on).

        Args:
            x: (N, C, H, W) int64 in [0, levels), N >= 1.
            labels: (N,) int64; only for a class-conditional model.
            condition: None.
        """
        with initialised_from_data(self):
            self._outputs(x, labels, condition)


def _shift_down(x: Tensor) -> Tensor:
    """Row r gets row r - 1; row 0 gets zeros."""
    return F.pad(x, (0, 0, 1, -1))


def _shift_right(x: Tensor) -> Tensor:
    """Column c gets column c - 1; column 0 gets zeros."""
    return F.pad(x, (1, -1, 0, 0))
