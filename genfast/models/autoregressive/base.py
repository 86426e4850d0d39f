"""What every autoregressive image model shares: likelihoods, loss and pixel-by-pixel sampling."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.autoregressive import drawing
from genfast.models.autoregressive.checks import check_condition, check_labels, check_levels
from genfast.models.autoregressive.heads import CategoricalHead, Head, scale_levels
from genfast.models.autoregressive.incremental import SamplerCache
from genfast.models.checks import checked_images
from genfast.sampling import Program
from genfast.sampling.modes import evaluating


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
        self.image_shape = checked_images(image_shape, levels, num_classes)
        if condition_channels < 0:
            raise ValueError(
                f"condition_channels must be 0 (no condition) or positive, got {condition_channels}"
            )
        self.levels = levels
        self.num_classes = num_classes
        self.condition_channels = condition_channels
        self.output_head = head or CategoricalHead(self.image_shape[0], levels)
        self._sampler_cache = SamplerCache()

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

    def pixel_program(self) -> Program:
        """The network as a pixel program, for incremental sampling; see docs/pixel-sampler.md.

        Raises:
            NotImplementedError: the model has none.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no pixel program: use method='naive', or define pixel_program"
        )

    def pixel_inputs(
        self, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The inputs of the pixel program by name, (N, channels) or (N, channels, H, W)."""
        return {}

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
        method: Literal["incremental", "naive"] = "incremental",
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
            method: "incremental" computes every activation once: O(1) work a pixel. "naive" runs the
                network on the rows so far once for every pixel and colour, or every pixel if its
                colours are one event; it draws the same images, up to rounding at the edge of a
                decision. Incremental sampling is native code in fp32, for 16-bit models too (whose
                naive sampling rounds every activation); models in fp64, or on a GPU for which this
                build has no code, run the same program in plain PyTorch.
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
            NotImplementedError: method "incremental" of a model without a pixel program.
        """
        if method not in ("incremental", "naive"):
            raise ValueError(f"method must be 'incremental' or 'naive', got {method!r}")
        if n < 0 or start < 0:
            raise ValueError(f"n={n} and start={start} must be at least 0")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        device = next(self.parameters()).device
        if isinstance(labels, int):
            labels = torch.full((n,), labels, device=device)
        check_labels(n, labels, self.num_classes)
        shape = (n, *self.image_shape)
        check_condition(shape, condition, self.condition_channels)
        x, known = drawing.canvas(shape, self.output_head, given, mask, device)
        with drawing.progress_bar(x[:, 0].numel(), progress) as advance:
            if method == "incremental":
                sampler = self._sampler_cache.sampler(self, self.pixel_program)
                sampler.fill(
                    x, known, seed=seed, start=start, temperature=temperature,
                    inputs=self.pixel_inputs(labels, condition), progress=advance,
                )  # fmt: skip
            else:
                with evaluating(self):
                    drawing.fill_naively(
                        x, known, self.output_head, partial(self._outputs_so_far, labels, condition),
                        seed=seed, start=start, temperature=temperature, advance=advance,
                    )  # fmt: skip
        return x

    def _outputs_so_far(self, labels: Tensor | None, condition: Tensor | None, x: Tensor) -> Tensor:
        """`_outputs` of the first rows."""
        seen = None if condition is None else condition[:, :, : x.shape[2]]
        return self._outputs(x, labels, seen)

    def _outputs(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The network on checked inputs: (N, output_head.outputs, h, W), in fp32 or fp64."""
        channels, height, width = self.image_shape
        if x.ndim != 4 or x.shape[1] != channels or x.shape[3] != width or x.shape[2] > height:
            raise ValueError(
                f"x must have shape (N, {channels}, {height}, {width}), got {tuple(x.shape)}"
            )
        check_levels(x, self.levels, "x")
        check_labels(x.shape[0], labels, self.num_classes)
        check_condition(x.shape, condition, self.condition_channels)
        dtype = next(self.parameters()).dtype
        condition = None if condition is None else condition.to(dtype)
        outputs = self.network(scale_levels(x, self.levels, dtype), labels, condition)
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
