"""Drawing any number of images from a model, batch by batch, by one process or several."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genfast.data import Split
from genfast.models.adversarial import TranslationModel
from genfast.training.checkpoint import describe_model
from genfast.training.distributed import Processes
from genfast.training.images import to_unit
from genfast.training.model_images import shown_levels, to_shown
from genfast.training.turns import image_bar, in_turn


@dataclass(frozen=True)
class Drawing:
    """What to draw. An image depends on this and on its number, not on its batch or process.

    Without `label` the images of a conditional model go through the classes in turn: image i is of
    class i mod K. With `given`, image i completes the first `given_rows` rows of the (i mod N)-th of
    its N images, and is of that image's class unless `label` says another. The `method` of
    `model.sample` draws the same images, up to rounding. Only models whose `sample` takes them have
    `temperature`, `given` and `method`.

    Raises `ValueError` naming the setting.

    >>> from genfast.models import MODELS
    >>> model = MODELS["gated-pixelcnn"]((1, 4, 4), 2, channels=4, layers=2)
    >>> drawing = Drawing(model, seed=3)
    >>> whole = drawing.images(range(5))
    >>> parts = [images for _, images in drawing.batches([range(5)], batch_size=2)]
    >>> len(parts), torch.equal(torch.cat(parts), whole)
    (3, True)
    """

    model: Any
    seed: int = 0
    temperature: float = 1.0
    label: int | None = None
    given: Split | None = None
    given_rows: int = 0
    method: str = "incremental"

    def __post_init__(self) -> None:
        if not hasattr(self.model, "sample"):
            raise ValueError(f"model: {type(self.model).__name__} has no prior to draw images from")
        usual = {"temperature": 1.0, "method": "incremental", "given": None}
        for name in usual.keys() - self._taken():
            if getattr(self, name) != usual[name]:
                kind = type(self.model).__name__
                raise ValueError(f"{name}: must be left out, {kind} has no such setting")
        classes, height = self.model.num_classes, self.model.image_shape[1]
        if self.label is not None and not 0 <= self.label < classes:
            wanted = f"0 to {classes - 1}" if classes else "left out, the model is not conditional"
            raise ValueError(f"label: must be {wanted}, got {self.label}")
        if isinstance(self.model, TranslationModel):
            if self.given is None or self.given_rows:
                raise ValueError("given_rows: must be left out, a translation is given whole images")
        elif self.given is not None and not 0 < self.given_rows < height:
            raise ValueError(f"given_rows: must be 1 to {height - 1}, got {self.given_rows}")

    def labels(self, numbers: range) -> Tensor | None:
        """The classes of the images with these numbers, int64; None if there are no classes."""
        classes: int = self.model.num_classes
        if not classes:
            return None
        if self.label is not None:
            return torch.full((len(numbers),), self.label)
        if self.given is not None and self.given.labels is not None:
            return self.given.labels[self._given_index(numbers)]
        return torch.arange(numbers.start, numbers.stop) % classes

    def images(self, numbers: range) -> Tensor:
        """The images with these numbers: levels (n,C,H,W), uint8, on the CPU."""
        device = next(self.model.parameters()).device
        labels, given, known = self.labels(numbers), None, None
        if isinstance(self.model, TranslationModel):
            assert self.given is not None
            chosen = self.given.images[self._given_index(numbers), : self.model.input_channels]
            given = to_unit(chosen.to(device), self.model.levels)
        elif self.given is not None:
            given = self.given.images[self._given_index(numbers)].to(device, torch.int64)
            known = torch.zeros(given.shape[2:], dtype=torch.bool, device=device)
            known[: self.given_rows] = True
        settings = {
            "start": numbers.start,
            "temperature": self.temperature,
            "given": given,
            "mask": known,
            "method": self.method,
        }
        images: Tensor = self.model.sample(
            len(numbers),
            seed=self.seed,
            **({} if labels is None else {"labels": labels.to(device)}),
            **{name: settings[name] for name in settings.keys() & self._taken()},
        )
        return to_shown(self.model, images)

    @property
    def levels(self) -> int:
        """The number of levels of `images`."""
        return shown_levels(self.model)

    def batches(
        self,
        ranges: Iterable[range],
        batch_size: int,
        processes: Processes | None = None,
        progress: bool = False,
    ) -> Iterator[tuple[range, Tensor]]:
        """The images of all `ranges`, in order: (their numbers, levels (n,C,H,W) uint8).

        `processes` draw the batches in turn; the main one gets them all, the others, which must go
        through the iterator as well, none.
        """
        ranges = list(ranges)
        parts = (
            numbers[first : first + batch_size]
            for numbers in ranges
            for first in range(0, len(numbers), batch_size)
        )
        shown = progress and (processes is None or processes.is_main)
        with image_bar(sum(map(len, ranges)), "sampling", shown) as bar:
            for numbers, images in in_turn(parts, lambda part: (part, self.images(part)), processes):
                yield numbers, images
                bar.update(len(numbers))

    def describe(self) -> dict[str, Any]:
        """What tells these draws from any others, as JSON values."""
        values = {
            "model": describe_model(self.model),
            "weights_crc32": _crc32(self.model.state_dict().values()),
            "seed": self.seed,
            "temperature": self.temperature,
            "label": self.label,
            "given_rows": self.given_rows,
        }
        if self.given is not None:
            values["given_crc32"] = _crc32([self.given.images])
        return values

    def _taken(self) -> set[str]:
        """The names of what `model.sample` takes."""
        parameters = inspect.signature(self.model.sample).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return {"start", "labels", "temperature", "given", "mask", "method"}
        return set(parameters)

    def _given_index(self, numbers: range) -> Tensor:
        assert self.given is not None
        return torch.arange(numbers.start, numbers.stop) % len(self.given)


def _crc32(tensors: Iterable[Tensor]) -> int:
    value = 0
    for tensor in tensors:
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        value = zlib.crc32(content.numpy().tobytes(), value)
    return value
