"""A module becomes its twin by a change of class, as torch.nn.utils.parametrize does it.

The object stays: so do its parameters, buffers, hooks, mode, dtype, device, every reference to it, and
`isinstance`, because the twin's class is derived from the class that was there.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn


class Twin:
    """What every twin's class adds to the class it replaces.

    Attributes:
        genfast_original: the class that was there.
        genfast_counts: whether this is a module of its own, rather than a part of another twin.
        genfast_plan: what the kind of twin needs to know; pickled and copied with the module.
    """

    genfast_counts = True
    genfast_original: type[nn.Module]
    genfast_plan: Any

    @classmethod
    def members(cls, original: type[nn.Module]) -> dict[str, Any]:
        """Members made for one original class, besides those of the kind."""
        return {}

    def ignored_taps(self) -> dict[str, Tensor]:
        """Where a parameter has no effect (True), by its name in the module."""
        return {}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class is made at run time, so pickle and copy cannot find it by its name.
        state = super().__reduce_ex__(protocol)[2]
        return _empty_twin, (self.genfast_kind, self.genfast_original), state

    genfast_kind: type[Twin]


_classes: dict[tuple[Any, Any], Any] = {}


def twin_class(kind: type[Twin], original: type[nn.Module]) -> Any:
    """The class of the twins of `original` that are of this kind; always the same."""
    if (kind, original) not in _classes:
        members = {
            "__module__": original.__module__,
            "__doc__": kind.__doc__,
            "genfast_kind": kind,
            "genfast_original": original,
            **kind.members(original),
        }
        bases = (kind, original)
        made = types.new_class(f"Fast{original.__name__}", bases, {}, lambda ns: ns.update(members))
        _classes[kind, original] = made
    return _classes[kind, original]


def _empty_twin(kind: type[Twin], original: type[nn.Module]) -> Any:
    cls = twin_class(kind, original)
    return cls.__new__(cls)


def become_twin(module: nn.Module, kind: type[Twin], plan: Any) -> None:
    module.__class__ = twin_class(kind, type(module))
    module.__dict__["genfast_plan"] = plan


def become_original(module: nn.Module) -> None:
    """The opposite; a module that is no twin stays as it is."""
    if isinstance(module, Twin):
        original: Any = module.genfast_original
        module.__class__ = original
        module.__dict__.pop("genfast_plan")
