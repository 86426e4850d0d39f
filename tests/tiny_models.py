"""Every autoregressive model at a size at which everything about it can be looked at."""

from __future__ import annotations

from typing import Any

from enumeration import randomise

from genfast.models import MODELS
from genfast.models.autoregressive import AutoregressiveModel

# Widths that three colours do not divide.
SIZES: dict[str, dict[str, Any]] = {
    "pixelcnn": {"channels": 14, "layers": 2},
    "gated-pixelcnn": {"channels": 7, "layers": 3},
    "pixelcnn-pp": {"filters": 4, "resnets": 1, "resolutions": 2, "mixtures": 2, "dropout": 0.0},
    "pixel-rnn": {"variant": "diagonal", "hidden": 7, "layers": 2},
    "pixel-rnn (row)": {"variant": "row", "hidden": 7, "layers": 2},
}
NAMES = list(SIZES)


def class_of(name: str) -> type[AutoregressiveModel]:
    """The model's class; in brackets stands which of its variants it is."""
    return MODELS[name.split(" ")[0]]


def tiny(
    name: str, image_shape: tuple[int, int, int], levels: int, *, seed: int = 0, **changes: Any
) -> AutoregressiveModel:
    """The model of that name in fp64, its weights large enough that every dependency shows."""
    model = class_of(name)(image_shape, levels, **SIZES[name] | changes).double()
    randomise(model, seed=seed)
    return model
