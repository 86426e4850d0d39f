"""What a setting is: its name, types, default and range, read from the code that declares it.

The settings of a run are the fields of `TrainConfig`. Those of a model are the arguments of its
constructor that its class names in `SETTINGS`, a mapping to help texts. Flags, checks of TOML files
and the tables of docs/training.md are all made from these.
"""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message begins with its name."""


@dataclass(frozen=True)
class Setting:
    """One setting. `kinds` are its types, None's among them if it may be None.

    `limits` holds numbers under "above", "at_least", "below" and "at_most".
    """

    name: str
    kinds: tuple[type, ...]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def optional(self) -> bool:
        """Whether None is a value of it."""
        return type(None) in self.kinds

    @property
    def kind(self) -> type:
        """The type of its values other than None."""
        return next(kind for kind in self.kinds if kind is not type(None))

    def check(self, value: Any, where: str = "") -> None:
        """Raises `ConfigError` if `value` is none of its values; `where` goes before its name."""
        wanted = self._wanted(value)
        if wanted:
            raise ConfigError(f"{where}{self.name}: must be {wanted}, got {value!r}")

    def _wanted(self, value: Any) -> str:
        """What is wrong with `value`, as what it should be; empty if nothing is."""
        if value is None and self.optional:
            return ""
        if self.choices:
            return "" if value in self.choices else f"one of {', '.join(self.choices)}"
        # An int passes for a float, a bool only for a bool.
        if type(value) not in {*self.kinds, *([int] if float in self.kinds else [])}:
            return " or ".join("None" if k is type(None) else k.__name__ for k in self.kinds)
        if isinstance(value, float) and not math.isfinite(value):
            return "finite"
        within = all(_TESTS[name](value, limit) for name, limit in self.limits.items())
        return "" if within else self.range

    @property
    def range(self) -> str:
        """The range of a number in words; empty if any will do."""
        return " and ".join(_WORDS[name].format(limit) for name, limit in self.limits.items())


_TESTS = {
    "above": lambda value, limit: value > limit,
    "at_least": lambda value, limit: value >= limit,
    "below": lambda value, limit: value < limit,
    "at_most": lambda value, limit: value <= limit,
}
_WORDS = {
    "above": "greater than {}",
    "at_least": "{} or more",
    "below": "less than {}",
    "at_most": "{} or less",
}


def declare(
    name: str, hint: Any, default: Any, help: str, limits: Mapping[str, float] | None = None
) -> Setting:
    """A setting from its type hint: int, float, str, bool, a Literal of str, any of them or None.

    >>> declare("size", int | None, None, "how large", {"above": 0}).check(0)
    Traceback (most recent call last):
    ...
    genfast.training.settings.ConfigError: size: must be greater than 0, got 0
    """
    kinds: list[type] = []
    choices: tuple[str, ...] = ()
    # `int | None` has another origin than `Literal["a"] | None`.
    is_union = get_origin(hint) in (Union, types.UnionType)
    for part in get_args(hint) if is_union else (hint,):
        if get_origin(part) is Literal:
            choices = get_args(part)
            kinds.append(str)
        elif part in (int, float, str, bool, type(None)):
            kinds.append(part)
        else:
            raise TypeError(f"{name}: a setting cannot be of type {part}")
    if type(None) in kinds and default is not None:
        # TOML has no null: leaving a setting out has to mean None.
        raise TypeError(f"{name}: the default of a setting that may be None must be None")
    return Setting(name, tuple(kinds), default, help, choices, limits or {})


def model_settings(model_class: Any) -> dict[str, Setting]:
    """The settings that a model class declares, by name.

    >>> from genfast.models import MODELS
    >>> model_settings(MODELS["gated-pixelcnn"])["layers"].default
    8
    """
    parameters = inspect.signature(model_class.__init__).parameters
    hints = get_type_hints(model_class.__init__)
    return {
        name: declare(name, hints[name], parameters[name].default, help)
        for name, help in model_class.SETTINGS.items()
    }


def unknown(name: str, known: Iterable[str], what: str) -> ConfigError:
    """The error for a name that is none of `known`.

    >>> print(unknown("batchsize", ["batch_size", "lr"], "unknown setting"))
    unknown setting; did you mean batch_size?
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
    return ConfigError(f"{what}; {hint}")
