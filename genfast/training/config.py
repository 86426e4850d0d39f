"""The settings of a training run: one dataclass, from which the command line makes its flags."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_type_hints


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message begins with its name."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a run; each field's `metadata["help"]` says what it is.

    Raises `ConfigError` naming the field.

    >>> TrainConfig(data="digits", epochs=3).lr
    0.001
    >>> TrainConfig(lr=-1.0)
    Traceback (most recent call last):
    ...
    genfast.training.config.ConfigError: lr: must be greater than 0, got -1.0
    """

    model: str = _setting("gated-pixelcnn", "which model to train")
    data: str = _setting("digits", "data set name (digits, mnist), .npz file or folder of pictures")
    data_dir: str | None = _setting(
        None, "folder with the files of named data sets (default: the variable GENFAST_DATA)"
    )
    levels: int | None = _setting(None, "levels a colour; 2 binarises (default: the data's own)")
    channels: int = _setting(64, "feature maps of each layer")
    layers: int = _setting(8, "layers, the first one included")
    conditional: bool = _setting(False, "condition the model on the class labels")
    epochs: int = _setting(20, "passes over the training images")
    max_minutes: float | None = _setting(None, "stop training this long after the start")
    max_steps: int | None = _setting(None, "stop after this many optimiser steps in all")
    batch_size: int = _setting(64, "most images in a step; an epoch is cut in steps of equal size")
    lr: float = _setting(1e-3, "learning rate of Adam")
    seed: int = _setting(0, "seed of the initial weights, the data order and the sample grids")
    sample_every: int = _setting(1, "epochs between sample grids; 0 draws none")
    samples: int = _setting(16, "images in a sample grid")
    log_every: int = _setting(50, "steps between rows of metrics.csv")
    checkpoint_minutes: float = _setting(2.0, "time between checkpoints within an epoch")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            _check_type(name, kind, getattr(self, name))
        for name in _POSITIVE:
            value = getattr(self, name)
            _check(name, value, value is None or value > 0, "greater than 0")
        for name in ("sample_every", "checkpoint_minutes"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        levels_right = self.levels is None or 2 <= self.levels <= 256
        _check("levels", self.levels, levels_right, "from 2 to 256")
        _check("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2**63 - 1")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> TrainConfig:
        """Settings from JSON values; those not given keep their defaults."""
        known = {setting.name for setting in fields(cls)}
        for name in settings:
            if name not in known:
                raise ConfigError(f"{name}: unknown setting; known are {', '.join(sorted(known))}")
        return cls(**settings)

    def continued(self, changes: dict[str, Any]) -> TrainConfig:
        """The settings for resuming a run: only how long, where and how to report may change."""
        for name, value in changes.items():
            if name not in _RESUMABLE and value != getattr(self, name):
                raise ConfigError(
                    f"{name}: a run cannot be resumed with another value: "
                    f"it has {getattr(self, name)!r}, got {value!r}"
                )
        return replace(self, **changes)


_POSITIVE = (
    *("channels", "layers", "epochs", "max_minutes", "max_steps", "batch_size", "lr"),
    *("samples", "log_every"),
)

#: What may differ when a run is resumed, without changing the losses of the steps already planned.
_RESUMABLE = {
    "data_dir",
    "epochs",
    "max_minutes",
    "max_steps",
    "sample_every",
    "samples",
    "log_every",
    "checkpoint_minutes",
}


def _check(name: str, value: Any, right: bool, wanted: str) -> None:
    if not right:
        raise ConfigError(f"{name}: must be {wanted}, got {value!r}")


def _check_type(name: str, kind: Any, value: Any) -> None:
    """`value` is of type `kind`; an int passes for a float, a bool only for a bool."""
    kinds = getattr(kind, "__args__", (kind,))
    accepted = {*kinds, int} if float in kinds else set(kinds)
    if type(value) not in accepted:
        names = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise ConfigError(f"{name}: must be {names}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: must be finite, got {value!r}")
