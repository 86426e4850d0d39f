"""genfast: fast, exact operations and reference models for deep generative modelling in PyTorch."""

from typing import Any

from genfast import _C
from genfast import divergences as divergences
from genfast import games as games
from genfast import models as models
from genfast import nn as nn
from genfast import ops as ops
from genfast import reference as reference
from genfast import sampling as sampling

__version__ = _C.build_info()["version"]

_FROM_SWAPPING = ("swap", "unswap", "verify")


def __getattr__(name: str) -> Any:
    """What is imported at its first use."""
    if name in _FROM_SWAPPING:
        from genfast import swapping

        return getattr(swapping, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FROM_SWAPPING]
