"""What a pattern says of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from genfast.swapping.twin import Twin


@dataclass(frozen=True)
class Change:
    """The module at `path` (below the one recognised; "" is itself) becomes a twin."""

    path: str
    kind: type[Twin]
    plan: Any = None


@dataclass(frozen=True)
class Candidate:
    """A way to replace a module, to be proved equal before it is used.

    Attributes:
        what: the twin, for the report.
        changes: the modules that change class.
        channels: those that a probe (N, channels, H, W) may have; empty if the change is equal by
            construction.
        note: what the user should know.
    """

    what: str
    changes: tuple[Change, ...]
    channels: tuple[int, ...]
    note: str = ""


class LeftAlone(Exception):
    """The module was recognised, but is not to be replaced; the message says why."""


#: Gives the candidates for a module, best first; none if it is not of the pattern.
Pattern = Callable[[nn.Module], Iterator[Candidate]]


def overrides_forward(module: nn.Module, base: type[nn.Module]) -> bool:
    """Whether the module's class computes something else than `base`, from which it is derived."""
    return isinstance(module, base) and type(module).forward is not base.forward


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def has_hooks(module: nn.Module) -> bool:
    """Whether anything but `forward` itself runs when the module is called."""
    return any(getattr(module, name) for name in _HOOKS)


def without_users_hooks(module: nn.Module) -> nn.Module:
    """The module itself, on which only hooks of torch.nn.utils are left, as weight_norm's is."""
    for name in _HOOKS:
        hooks = getattr(module, name)
        for key in [key for key, hook in hooks.items() if not _is_torch_s(hook)]:
            del hooks[key]
    return module


def has_users_hooks(module: nn.Module) -> bool:
    """Whether there are hooks that `without_users_hooks` takes away."""
    return not all(_is_torch_s(hook) for name in _HOOKS for hook in getattr(module, name).values())


def _is_torch_s(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils.")


def is_library_class(module: nn.Module) -> bool:
    """Whether the class is torch's or ours, so that there is nothing to replace."""
    return f"{type(module).__module__}.".startswith(("torch.", "genfast.nn.", "genfast.models."))
