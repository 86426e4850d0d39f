"""Drawing the same images by two methods: what each takes, and whether they agree."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from genfast.models.autoregressive.agreement import differ_by_rounding
from genfast.training.samples import Drawing
from genfast.training.turns import image_bar


@dataclass(frozen=True)
class RecordedDrawing(Drawing):
    """A drawing that keeps its batches and the seconds that each took.

    >>> from genfast.models import MODELS
    >>> model = MODELS["gated-pixelcnn"]((1, 4, 4), 2, channels=4, layers=2)
    >>> drawing = RecordedDrawing(model, seed=3)
    >>> images = drawing.images(range(2))
    >>> comparison = compare(drawing, "naive")
    >>> comparison.different_pixels, comparison.agree
    (0, True)
    """

    record: list[tuple[range, Tensor, float]] = field(default_factory=list)

    def images(self, numbers: range) -> Tensor:
        began = time.perf_counter()
        images = super().images(numbers)
        self.record.append((numbers, images, time.perf_counter() - began))
        return images


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same images; `wrong_images` differ by more than rounding explains."""

    methods: tuple[str, str]
    seconds: tuple[float, float]
    images: int
    pixels: int
    different_images: int
    different_pixels: int
    wrong_images: int

    @property
    def agree(self) -> bool:
        """Whether the images are equal up to draws at a rounding edge, and what follows from these."""
        return self.wrong_images == 0

    def describe(self) -> str:
        """Both times, their ratio and whether the images agree.

        >>> times = {"seconds": (2.0, 3.0), "images": 4, "pixels": 36}
        >>> found = {"different_images": 1, "different_pixels": 5, "wrong_images": 0}
        >>> print(Comparison(("incremental", "naive"), **times, **found).describe())
        incremental: 2.000 s for 4 images
        naive: 3.000 s for 4 images
        naive takes 1.50 times as long as incremental
        the images agree but for 5 of 36 pixels in 1 of 4 images, each after a draw at a rounding edge
        """
        (first, second), (a, b) = self.methods, self.seconds
        lines = [f"{m}: {s:.3f} s for {self.images} images" for m, s in ((first, a), (second, b))]
        lines.append(f"{second} takes {b / a:.2f} times as long as {first}")
        differ = (
            f"{self.different_pixels} of {self.pixels} pixels "
            f"in {self.different_images} of {self.images} images"
        )
        if self.wrong_images:
            lines.append(f"the images differ: {differ}, {self.wrong_images} by more than rounding")
        elif self.different_images:
            lines.append(f"the images agree but for {differ}, each after a draw at a rounding edge")
        else:
            lines.append(f"the images agree in all {self.pixels} pixels")
        return "\n".join(lines)


def compare(drawing: RecordedDrawing, method: str) -> Comparison:
    """Draws by another method what `drawing` has drawn. Raises `ValueError` if that is nothing."""
    if not drawing.record:
        raise ValueError("compare: nothing has been drawn")
    other = replace(drawing, method=method, record=[])
    images = sum(len(numbers) for numbers, _, _ in drawing.record)
    pixels = different_images = different_pixels = wrong = 0
    with image_bar(images, f"sampling by {method}", True) as bar:
        for numbers, drawn, _ in drawing.record:
            again = other.images(numbers)
            differ = (drawn != again).any(1).flatten(1)
            right = _by_rounding(drawing, numbers, drawn, again)
            pixels += differ.numel()
            different_images += int(differ.any(1).sum())
            different_pixels += int(differ.sum())
            wrong += int((~right).sum())
            bar.update(len(numbers))
    first, second = (sum(s for _, _, s in d.record) for d in (drawing, other))
    return Comparison(
        (drawing.method, method), (first, second), images, pixels,
        different_images, different_pixels, wrong,
    )  # fmt: skip


def _by_rounding(drawing: Drawing, numbers: range, x: Tensor, y: Tensor) -> Tensor:
    """`differ_by_rounding` of images of a drawing."""
    device = next(drawing.model.parameters()).device
    labels = drawing.labels(numbers)
    return differ_by_rounding(
        drawing.model,
        x.to(device, torch.int64),
        y.to(device, torch.int64),
        torch.arange(numbers.start, numbers.stop, device=device),
        seed=drawing.seed,
        labels=None if labels is None else labels.to(device),
        temperature=drawing.temperature,
    ).cpu()
