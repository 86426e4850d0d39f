"""What every autoregressive image model shares: likelihoods, loss and pixel-by-pixel sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.autoregressive.heads import CategoricalHead, Head, scale_levels
from genfast.sampling import uniforms


class AutoregressiveModel(nn.Module):
    """p(x) = product over pixels (raster order) and colours (R, G, B) of p(x_i | x_<i).

    A subclass defines `network`; everything else follows. Images are int64 level tensors (N, C, H, W)
    in [0, levels). All log-probabilities are in nats.

    Every method takes what the model is conditioned on: `labels` (N,) int64 in [0, num_classes) and
    `condition` (N, condition_channels, H, W), each needed exactly if the model has it.

    Args:
        image_shape: (C, H, W), each at least 1.
        levels: values a colour can take, at least 2.
        num_classes: 0 for a model without classes.
        condition_channels: 0 for a model without a spatial condition.
        head: what the network's outputs mean; a softmax over the levels unless given.
    """

    #: The constructor's arguments, so that `type(model)(**model.config)` builds the same architecture.
    config: dict[str, Any]
    #: Unit of `loss`, and of the figures that evaluation gives.
    unit: ClassVar[str] = "bits/dim"

    #: The constructor's arguments that a training run may set, and what each of them is.
    SETTINGS: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int,
        num_classes: int = 0,
        condition_channels: int = 0,
        head: Head | None = None,
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(
                f"image_shape must be (C, H, W) with sizes of at least 1, got {tuple(image_shape)}"
            )
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (unconditional) or positive, got {num_classes}")
        if condition_channels < 0:
            raise ValueError(
                f"condition_channels must be 0 (no condition) or positive, got {condition_channels}"
            )
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.levels = levels
        self.num_classes = num_classes
        self.condition_channels = condition_channels
        self.output_head = head or CategoricalHead(channels, levels)

    def network(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The causal network.

        Args:
            x: (N, C, h, W) in [-1, 1]; h may be less than H, which leaves the rows present unchanged.
            labels: (N,) int64; only for a class-conditional model.
            condition: (N, condition_channels, h, W); only for a model with a spatial condition.

        Returns:
            (N, output_head.outputs, h, W); a categorical head's are colour-major.
        """
        raise NotImplementedError

    def initialise_from_data(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> None:
        """Sets initial weights by a first batch of data, before training; most models need none.

        Args:
            x: (N, C, H, W) int64 in [0, levels), N >= 1.
            labels, condition: what the model is conditioned on.
        """

    def forward(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The parameters of every pixel's distribution given the pixels before it.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels, condition: what the model is conditioned on.

        Returns:
            The logits of the levels, unnormalised: (N, C, levels, H, W); or the parameters of a mixture
            of logistics: (N, 10K or 3K, H, W).
        """
        return self.output_head.parameters(self._outputs(x, labels, condition))

    def pixel_log_prob(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """log p of every pixel and colour given those before it, nats.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels, condition: what the model is conditioned on.

        Returns:
            (N, C, H, W), or (N, 1, H, W) where the colours of a pixel are one event.
        """
        return self.output_head.log_prob(self._outputs(x, labels, condition), x)

    def log_prob(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """log p(x) of every image: (N,), nats.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels, condition: what the model is conditioned on.
        """
        return self.pixel_log_prob(x, labels, condition).sum((1, 2, 3))

    def loss(self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Mean negative log-likelihood in bits per dimension (pixel and colour), 0-dim.

        Args:
            x: (N, C, H, W) int64 in [0, levels), N >= 1.
            labels, condition: what the model is conditioned on.
        """
        return self.pixel_log_prob(x, labels, condition).sum() / (-math.log(2) * x.numel())

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        labels: Tensor | int | None = None,
        method: Literal["naive", "incremental"] = "naive",
        given: Tensor | None = None,
        mask: Tensor | None = None,
        temperature: float = 1.0,
        progress: bool = False,
        start: int = 0,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Draws images, pixel by pixel.

        The draws are keyed by (seed, number of the image, pixel, draw): image i of one call equals
        image i of any other with the same seed, whatever the batch. `start` numbers the first image,
        so that sample(64) is sample(32) followed by sample(32, start=32).

        Args:
            n: number of images.
            seed: of the draws.
            labels: (n,) int64 or one int for all; only for a class-conditional model.
            method: "naive" runs the network on the rows so far once for every pixel and
                colour, or every pixel if its colours are one event.
            given: (n, C, H, W) int64, an image to complete.
            mask: bool, broadcastable to (n, C, H, W): True keeps the value of `given`. Where the
                colours of a pixel are one event it keeps all or none of them.
            temperature: divides the logits and multiplies the scales, > 0.
            progress: shows a progress bar (needs the extra `train`).
            start: number of the first image, >= 0.
            condition: (n, condition_channels, H, W); only for a model with a spatial condition.

        Returns:
            (n, C, H, W) int64.

        Raises:
            ValueError: an argument out of its range, or `given` without `mask`.
            NotImplementedError: method "incremental", which does not exist yet.
        """
        if method == "incremental":
            raise NotImplementedError("method='incremental' does not exist yet; use method='naive'")
        if method != "naive":
            raise ValueError(f"method must be 'naive', got {method!r}")
        if n < 0 or start < 0:
            raise ValueError(f"n={n} and start={start} must be at least 0")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        device = next(self.parameters()).device
        if isinstance(labels, int):
            labels = torch.full((n,), labels, device=device)
        self._check_labels(n, labels)
        self._check_condition((n, *self.image_shape), condition)
        x, known = self._canvas(n, given, mask, device)
        numbers = torch.arange(start, start + n, device=device)
        was_training = self.training
        self.eval()
        try:
            for row, column in self._pixels(progress):
                self._draw_pixel(x, known, row, column, labels, condition, numbers, seed, temperature)
        finally:
            self.train(was_training)
        return x

    def _draw_pixel(
        self,
        x: Tensor,
        known: Tensor,
        row: int,
        column: int,
        labels: Tensor | None,
        condition: Tensor | None,
        numbers: Tensor,
        seed: int,
        temperature: float,
    ) -> None:
        """Fills one pixel of x, colour after colour, from the rows so far."""
        keep = known[:, :, row, column]
        if bool(keep.all()):
            return
        head = self.output_head
        uniform = uniforms(seed, numbers, row * self.image_shape[2] + column, head.draws)
        above = slice(row + 1)
        for colours in head.passes:
            seen = None if condition is None else condition[:, :, above]
            outputs = self._outputs(x[:, :, above], labels, seen)[:, :, row, column]
            drawn = head.draw(outputs, uniform, colours, temperature)
            old = x[:, colours, row, column]
            x[:, colours, row, column] = torch.where(keep[:, colours], old, drawn)

    def _canvas(
        self, n: int, given: Tensor | None, mask: Tensor | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """The image to start from and which of its values are final."""
        shape = (n, *self.image_shape)
        if (given is None) != (mask is None):
            raise ValueError("given and mask go together: pass both or neither")
        if given is None or mask is None:
            known = torch.zeros(shape, dtype=torch.bool, device=device)
            return torch.zeros(shape, dtype=torch.int64, device=device), known
        if tuple(given.shape) != shape:
            raise ValueError(f"given must have shape {shape}, got {tuple(given.shape)}")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be a bool tensor, got {mask.dtype}")
        try:
            known = mask.to(device).expand(shape)
        except RuntimeError:
            raise ValueError(
                f"mask of shape {tuple(mask.shape)} does not broadcast to {shape}"
            ) from None
        if len(self.output_head.passes) < shape[1] and bool((known != known[:, :1]).any()):
            raise ValueError(
                "mask must keep all colours of a pixel or none: they are drawn as one event"
            )
        x = torch.where(known, given.to(device), 0)
        self._check_levels(x, "given")
        return x, known

    def _pixels(self, progress: bool) -> Iterable[tuple[int, int]]:
        _, height, width = self.image_shape
        pixels = [(row, column) for row in range(height) for column in range(width)]
        if not progress:
            return pixels
        try:
            from tqdm import tqdm
        except ImportError:
            raise ImportError(
                'progress=True needs tqdm: pip install "genfast[train]", or pass progress=False'
            ) from None
        return tqdm(pixels, desc="sampling", unit="pixel")  # type: ignore[no-any-return]

    def _outputs(self, x: Tensor, labels: Tensor | None, condition: Tensor | None) -> Tensor:
        """The network on checked inputs: (N, output_head.outputs, h, W), in fp32 or fp64."""
        channels, height, width = self.image_shape
        if x.ndim != 4 or x.shape[1] != channels or x.shape[3] != width or x.shape[2] > height:
            raise ValueError(
                f"x must have shape (N, {channels}, {height}, {width}), got {tuple(x.shape)}"
            )
        self._check_levels(x, "x")
        self._check_labels(x.shape[0], labels)
        self._check_condition(x.shape, condition)
        dtype = next(self.parameters()).dtype
        condition = None if condition is None else condition.to(dtype)
        outputs = self.network(scale_levels(x, self.levels, dtype), labels, condition)
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))

    def _check_levels(self, x: Tensor, name: str) -> None:
        if x.dtype != torch.int64:
            raise TypeError(f"{name} must hold int64 levels, got {x.dtype}")
        if _may_look(x) and x.numel():
            low, high = x.aminmax()
            if low < 0 or high >= self.levels:
                raise ValueError(
                    f"{name} must hold levels in [0, {self.levels}), got {int(low)}..{int(high)}"
                )

    def _check_labels(self, n: int, labels: Tensor | None) -> None:
        if (labels is None) != (self.num_classes == 0):
            raise ValueError(
                f"labels are needed: the model has {self.num_classes} classes"
                if labels is None
                else "labels given, but the model has no classes (num_classes=0)"
            )
        if labels is None:
            return
        if tuple(labels.shape) != (n,) or labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64 of shape ({n},), got {labels.dtype} {tuple(labels.shape)}"
            )
        if _may_look(labels) and labels.numel():
            low, high = labels.aminmax()
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"labels must be in [0, {self.num_classes}), got {int(low)}..{int(high)}"
                )

    def _check_condition(self, shape: Sequence[int], condition: Tensor | None) -> None:
        """`shape` is that of the images, (N, C, h, W)."""
        if (condition is None) != (self.condition_channels == 0):
            raise ValueError(
                f"condition is needed: the model has {self.condition_channels} condition_channels"
                if condition is None
                else "condition given, but the model has none (condition_channels=0)"
            )
        wanted = (shape[0], self.condition_channels, *shape[2:])
        if condition is not None and tuple(condition.shape) != wanted:
            raise ValueError(f"condition must have shape {wanted}, got {tuple(condition.shape)}")


def _may_look(x: Tensor) -> bool:
    """Whether reading values costs nothing: on a CPU, outside compilation."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
