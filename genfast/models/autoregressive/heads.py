"""Heads: how the network's outputs at a pixel make a distribution over the levels of its colours."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast.ops import logistic_mixture_log_prob
from genfast.sampling import ProgramBuilder, Tap, categorical, logistic_mixture_levels


def scale_levels(x: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Levels 0 .. levels - 1 as values in [-1, 1]: 2x / (levels - 1) - 1, rounded once to `dtype`.

    >>> import torch
    >>> from genfast.models.autoregressive.heads import scale_levels
    >>> scale_levels(torch.arange(3), 3, torch.float32).tolist()
    [-1.0, 0.0, 1.0]
    """
    exact = torch.promote_types(dtype, torch.float32)
    return (x.to(exact) * (2 / (levels - 1)) - 1).to(dtype)


class Head(ABC):
    """The last step of an autoregressive model, without parameters of its own.

    Args:
        colours: of a pixel.
        levels: values a colour can take.
    """

    #: Channels that the network gives at a pixel.
    outputs: int
    #: Uniforms that drawing a pixel takes.
    draws: int
    #: The colours that one pass of the network decides, in their order.
    passes: tuple[slice, ...]

    def __init__(self, colours: int, levels: int) -> None:
        self.colours = colours
        self.levels = levels

    @abstractmethod
    def parameters(self, outputs: Tensor) -> Tensor:
        """The distribution's parameters, from the network's outputs (N, `outputs`, ...)."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """log p of the pixels, nats: (N, C, H, W), or (N, 1, H, W) if the colours are one event.

        Args:
            outputs: (N, `outputs`, H, W) of the network.
            x: (N, C, H, W) int64 levels.
        """

    @abstractmethod
    def draw(self, outputs: Tensor, uniforms: Tensor, colours: slice, temperature: float) -> Tensor:
        """Draws the colours of one of the `passes`: (N, colours in it) int64 levels.

        Args:
            outputs: (N, `outputs`) of the network at one pixel.
            uniforms: (N, `draws`) in (0, 1), those of the pixel.
            colours: one of the `passes`.
            temperature: flattens (> 1) or sharpens (< 1) the distribution.
        """

    @abstractmethod
    def lower(self, builder: ProgramBuilder, outputs: Tap) -> None:
        """The draws of a pixel program whose network ends in `outputs`."""


class CategoricalHead(Head):
    """A softmax over the levels of each colour; one Bernoulli logit if there are two.

    `parameters` are the logits, unnormalised: (N, C, levels, ...).

    >>> import torch
    >>> from genfast.models.autoregressive.heads import CategoricalHead
    >>> CategoricalHead(3, 256).outputs
    768
    """

    def __init__(self, colours: int, levels: int) -> None:
        super().__init__(colours, levels)
        self.outputs = colours * (1 if levels == 2 else levels)
        self.draws = colours
        self.passes = tuple(slice(c, c + 1) for c in range(colours))

    def parameters(self, outputs: Tensor) -> Tensor:
        logits = outputs.unflatten(1, (self.colours, -1))
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        logits = outputs.unflatten(1, (self.colours, -1))
        if self.levels == 2:
            target = x.to(logits.dtype)
            return -F.binary_cross_entropy_with_logits(logits[:, :, 0], target, reduction="none")
        nats = F.cross_entropy(logits.flatten(0, 1), x.flatten(0, 1), reduction="none")
        return -nats.view_as(x)

    def draw(self, outputs: Tensor, uniforms: Tensor, colours: slice, temperature: float) -> Tensor:
        logits = self.parameters(outputs)[:, colours]
        return categorical(logits / temperature, uniforms[:, colours])

    def lower(self, builder: ProgramBuilder, outputs: Tap) -> None:
        each = self.outputs // self.colours
        for colour in range(self.colours):
            logits = outputs[colour * each : (colour + 1) * each]
            builder.draw(logits, "bernoulli" if self.levels == 2 else "categorical", colour)


class LogisticMixtureHead(Head):
    """A discretised mixture of logistics over all colours at once (PixelCNN++).

    `parameters` are the mixture's: (N, 10K, ...) for colours, (N, 3K, ...) for grey; see
    `genfast.ops.logistic_mixture_log_prob`. Draw 0 of a pixel picks the component, draw 1 + c colour c.

    Args:
        colours: 1 or 3.
        levels: values a colour can take.
        mixtures: components, K.

    Raises:
        ValueError: an argument out of its range.

    >>> from genfast.models.autoregressive.heads import LogisticMixtureHead
    >>> LogisticMixtureHead(3, 256, 10).outputs
    100
    """

    def __init__(self, colours: int, levels: int, mixtures: int) -> None:
        if colours not in (1, 3):
            raise ValueError(
                "image_shape must have 1 or 3 channels for a mixture of logistics, "
                f"got {colours} channels"
            )
        if mixtures < 1:
            raise ValueError(f"mixtures must be at least 1, got {mixtures}")
        super().__init__(colours, levels)
        self.mixtures = mixtures
        self.outputs = (10 if colours == 3 else 3) * mixtures
        self.draws = 1 + colours
        self.passes = (slice(0, colours),)

    def parameters(self, outputs: Tensor) -> Tensor:
        return outputs

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        values = scale_levels(x, self.levels, outputs.dtype)
        return logistic_mixture_log_prob(outputs, values, levels=self.levels)[:, None]

    def draw(self, outputs: Tensor, uniforms: Tensor, colours: slice, temperature: float) -> Tensor:
        return logistic_mixture_levels(outputs, uniforms, levels=self.levels, temperature=temperature)

    def lower(self, builder: ProgramBuilder, outputs: Tap) -> None:
        builder.draw(outputs, "logistic_mixture")
