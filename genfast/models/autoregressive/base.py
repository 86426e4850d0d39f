"""What every autoregressive image model shares: likelihoods, loss and pixel-by-pixel sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.models.autoregressive.incremental import SamplerCache
from genfast.sampling import Program, categorical, uniforms


class AutoregressiveModel(nn.Module):
    """p(x) = product over pixels (raster order) and colours (R, G, B) of p(x_i | x_<i).

    A subclass defines `network`; everything else follows. Images are int64 level tensors (N, C, H, W)
    in [0, levels). All log-probabilities are in nats.

    Args:
        image_shape: (C, H, W), each at least 1.
        levels: values a colour can take, at least 2.
        num_classes: 0 for an unconditional model; otherwise every method needs `labels` in
            [0, num_classes).
    """

    #: The constructor's arguments, so that `type(model)(**model.config)` builds the same architecture.
    config: dict[str, Any]

    def __init__(self, image_shape: tuple[int, int, int], levels: int, num_classes: int = 0) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(
                f"image_shape must be (C, H, W) with sizes of at least 1, got {tuple(image_shape)}"
            )
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (unconditional) or positive, got {num_classes}")
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.levels = levels
        self.num_classes = num_classes
        self._sampler_cache = SamplerCache()

    @property
    def outputs_per_colour(self) -> int:
        """Network outputs a colour: one logit for two levels (Bernoulli), else one a level."""
        return 1 if self.levels == 2 else self.levels

    def network(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """The causal network.

        Args:
            x: (N, C, h, W) in [-1, 1]; h may be less than H, which leaves the rows present unchanged.
            labels: (N,) int64, or None for an unconditional model.

        Returns:
            (N, C * outputs_per_colour, h, W), colour-major.
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

    def pixel_inputs(self, labels: Tensor | None) -> dict[str, Tensor]:
        """The inputs of the pixel program by name, (N, channels) or (N, channels, H, W)."""
        return {}

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits of every pixel's levels given the pixels before it, unnormalised.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels: (N,) int64; only for a class-conditional model.

        Returns:
            (N, C, levels, H, W).
        """
        logits = self._outputs(x, labels)
        return torch.cat([torch.zeros_like(logits), logits], 2) if self.levels == 2 else logits

    def pixel_log_prob(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p of every pixel and colour given those before it: (N, C, H, W), nats.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels: (N,) int64; only for a class-conditional model.
        """
        logits = self._outputs(x, labels)
        if self.levels == 2:
            return -F.binary_cross_entropy_with_logits(
                logits[:, :, 0], x.to(logits.dtype), reduction="none"
            )
        nats = F.cross_entropy(logits.flatten(0, 1), x.flatten(0, 1), reduction="none")
        return -nats.view_as(x)

    def log_prob(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x) of every image: (N,), nats.

        Args:
            x: (N, C, H, W) int64 in [0, levels).
            labels: (N,) int64; only for a class-conditional model.
        """
        return self.pixel_log_prob(x, labels).sum((1, 2, 3))

    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean negative log-likelihood in bits per dimension (pixel and colour), 0-dim.

        Args:
            x: (N, C, H, W) int64 in [0, levels), N >= 1.
            labels: (N,) int64; only for a class-conditional model.
        """
        bits: Tensor = self.pixel_log_prob(x, labels).mean() / -math.log(2)
        return bits

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
    ) -> Tensor:
        """Draws images, pixel by pixel.

        The draws are keyed by (seed, number of the image, pixel, colour): image i of one call equals
        image i of any other with the same seed, whatever the batch. `start` numbers the first image,
        so that sample(64) is sample(32) followed by sample(32, start=32).

        Args:
            n: number of images.
            seed: of the draws.
            labels: (n,) int64 or one int for all; only for a class-conditional model.
            method: "incremental" computes every activation once: O(1) work a pixel. "naive" runs the
                network on the rows so far once for every pixel and colour; it draws the same images, up
                to rounding at the edge of a decision. Incremental sampling is native code in fp32, for
                16-bit models too (whose naive sampling rounds every activation); models in fp64, or on a
                GPU for which this build has no code, run the same program in plain PyTorch.
            given: (n, C, H, W) int64, an image to complete.
            mask: bool, broadcastable to (n, C, H, W): True keeps the value of `given`.
            temperature: divides the logits, > 0.
            progress: shows a progress bar (needs the extra `train`).
            start: number of the first image, >= 0.

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
        self._check_labels(n, labels)
        x, known = self._canvas(n, given, mask, device)
        with _progress_bar(n * self.image_shape[1] * self.image_shape[2], progress) as advance:
            if method == "incremental":
                sampler = self._sampler_cache.sampler(self, self.pixel_program)
                sampler.fill(
                    x, known, seed=seed, start=start, temperature=temperature,
                    inputs=self.pixel_inputs(labels), progress=advance,
                )  # fmt: skip
            else:
                self._sample_naively(x, known, labels, seed, start, temperature, advance)
        return x

    def _sample_naively(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None,
        seed: int,
        start: int,
        temperature: float,
        advance: Callable[[int], object],
    ) -> None:
        """Fills what is not known of x."""
        _, height, width = self.image_shape
        numbers = torch.arange(start, start + len(x), device=x.device)
        was_training = self.training
        self.eval()
        try:
            for pixel in range(height * width):
                row, column = divmod(pixel, width)
                self._draw_pixel(x, known, row, column, labels, numbers, seed, temperature)
                advance(len(x))
        finally:
            self.train(was_training)

    def _draw_pixel(
        self,
        x: Tensor,
        known: Tensor,
        row: int,
        column: int,
        labels: Tensor | None,
        numbers: Tensor,
        seed: int,
        temperature: float,
    ) -> None:
        """Fills one pixel of x, colour after colour, from the rows so far."""
        channels, _, width = self.image_shape
        keep = known[:, :, row, column]
        if bool(keep.all()):
            return
        uniform = uniforms(seed, numbers, row * width + column, channels)
        for colour in range(channels):
            logits = self(x[:, :, : row + 1], labels)[:, colour, :, row, column]
            level = categorical(logits / temperature, uniform[:, colour])
            old = x[:, colour, row, column]
            x[:, colour, row, column] = torch.where(keep[:, colour], old, level)

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
        x = torch.where(known, given.to(device), 0).contiguous()
        self._check_levels(x, "given")
        return x, known

    def _outputs(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """The network on checked levels: (N, C, outputs_per_colour, h, W), in fp32 or fp64."""
        channels, height, width = self.image_shape
        if x.ndim != 4 or x.shape[1] != channels or x.shape[3] != width or x.shape[2] > height:
            raise ValueError(
                f"x must have shape (N, {channels}, {height}, {width}), got {tuple(x.shape)}"
            )
        self._check_levels(x, "x")
        self._check_labels(x.shape[0], labels)
        dtype = next(self.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        scaled = (x.to(exact) * (2 / (self.levels - 1)) - 1).to(dtype)
        outputs = self.network(scaled, labels)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        split: Tensor = outputs.unflatten(1, (channels, self.outputs_per_colour))
        return split

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


@contextmanager
def _progress_bar(pixels: int, wanted: bool) -> Iterator[Callable[[int], object]]:
    """What tells how many more pixels are done."""
    if not wanted:
        yield lambda more: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(
            'progress=True needs tqdm: pip install "genfast[train]", or pass progress=False'
        ) from None
    with tqdm(total=pixels, desc="sampling", unit="pixel") as bar:
        yield bar.update


def _may_look(x: Tensor) -> bool:
    """Whether reading values costs nothing: on a CPU, outside compilation."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
