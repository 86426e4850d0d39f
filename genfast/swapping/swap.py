"""`genfast.swap`: find what can be replaced, prove each replacement, make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from genfast.swapping.cropped_convolution import cropped_convolution
from genfast.swapping.gate import gate
from genfast.swapping.inline_gate import inline_gate
from genfast.swapping.masked_convolution import masked_convolution
from genfast.swapping.proof import copied, difference, randomised
from genfast.swapping.recognition import (
    Candidate,
    LeftAlone,
    Pattern,
    has_users_hooks,
    is_library_class,
)
from genfast.swapping.report import Left, Replaced, SwapReport
from genfast.swapping.shifted_convolution import (
    channel_linear,
    shifted_convolution,
    shifted_transposed_convolution,
)
from genfast.swapping.twin import Twin, become_original, become_twin

#: In the order in which they are tried.
PATTERNS: tuple[Pattern, ...] = (
    masked_convolution,
    cropped_convolution,
    shifted_convolution,
    shifted_transposed_convolution,
    channel_linear,
    gate,
    inline_gate,
)


def swap(model: nn.Module) -> SwapReport:
    """Replaces the modules of `model` that it recognises by genfast's, in place.

    Recognised are, by structure and by what they compute, not by name: masked convolutions (a mask of
    zeros and ones next to a weight, any mask that is causal), gates tanh(a) * sigmoid(b) as modules and
    written out in a `forward`, the gates a * sigmoid(b), shifted convolutions, and linear maps of
    channels of PixelCNN++ ports. Before a module is replaced, outputs and gradients of a copy and of its
    twin are compared in fp64 on random inputs and weights; gates within a `forward` are replaced in its
    syntax tree. What differs in anything is left alone.

    The module objects stay: they only change class, to one derived from their own. So state_dict,
    parameters, optimisers, hooks, mode, dtype and device are untouched, and `isinstance` still holds.
    One thing changes: where a port masks its weight by `weight.data *= mask`, dead taps get a gradient
    that the next forward throws away, and lose their values; from now on the gradient is zero there
    (which a norm of all gradients sees) and the values stay.

    Args:
        model: any module; twins in it stay as they are.

    Returns:
        What was replaced, and what was left alone and why. Print it.

    Raises:
        TypeError: `model` is no nn.Module.

    >>> import torch, genfast
    >>> from torch import nn
    >>> class MaskedConv(nn.Conv2d):
    ...     def __init__(self, *args, **keywords):
    ...         super().__init__(*args, **keywords)
    ...         mask = torch.ones_like(self.weight)
    ...         mask[:, :, 1, 2:] = mask[:, :, 2:] = 0
    ...         self.register_buffer("mask", mask)
    ...
    ...     def forward(self, x):
    ...         self.weight.data *= self.mask
    ...         return super().forward(x)
    >>> model = nn.Sequential(MaskedConv(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    >>> print(genfast.swap(model))  # doctest: +ELLIPSIS
    replaced 1, left alone 0
      replaced: 0: MaskedConv -> masked_conv2d, mask B (dead taps get zero gradient ...)
    """
    _check(model)
    replaced: list[Replaced] = []
    left: list[Left] = []
    already: list[str] = []
    made: set[int] = set()
    owners = _owners(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, Twin):
            if id(module) not in made:
                already.append(name)
            continue
        if is_library_class(module):
            continue
        kind = type(module).__name__
        try:
            candidate = _proved(module, owners)
        except LeftAlone as reason:
            left.append(Left(name, kind, str(reason)))
            continue
        for change in candidate.changes:
            part = module.get_submodule(change.path)
            become_twin(part, change.kind, change.plan)
            made.add(id(part))
        replaced.append(Replaced(name, kind, candidate.what, candidate.note))
    return SwapReport(tuple(replaced), tuple(left), tuple(already))


def unswap(model: nn.Module) -> None:
    """Gives every module that `genfast.swap` replaced its own class back, in place.

    >>> import genfast
    >>> from torch import nn
    >>> genfast.unswap(nn.ReLU())
    """
    _check(model)
    for module in model.modules():
        become_original(module)


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def _proved(module: nn.Module, owners: Counter[int]) -> Candidate:
    """The first candidate for the module that computes the same.

    Raises:
        LeftAlone: there is none.
    """
    reason = "no pattern fits"
    for candidate in _candidates(module):
        try:
            _check_parts(module, candidate, owners)
        except LeftAlone as refusal:
            reason = str(refusal)
            continue
        different = ""
        if candidate.channels:
            with torch.inference_mode(False):  # whose tensors have no gradients
                plain, twin = _pair(module, candidate)
                different = difference(plain, twin, candidate.channels)
        if not different:
            return candidate
        # A module without parameters was only guessed to be a gate.
        if any(True for _ in module.parameters()):
            reason = f"looked like {candidate.what}, but {different}"
    raise LeftAlone(reason)


def _candidates(module: nn.Module) -> Iterator[Candidate]:
    if "forward" in module.__dict__:
        raise LeftAlone("its forward was set on the object, not in its class")
    if type(module).__reduce_ex__ is not object.__reduce_ex__:
        raise LeftAlone("its class has a way of its own to be pickled and copied")
    for pattern in PATTERNS:
        yield from pattern(module)


def _check_parts(module: nn.Module, candidate: Candidate, owners: Counter[int]) -> None:
    """Inner modules that change must be torch's, and nobody else's."""
    for change in candidate.changes:
        part = module.get_submodule(change.path)
        if part is not module and owners[id(part)] > 1:
            raise LeftAlone(f"its {change.path} is also part of another module")
        if part is not module and has_users_hooks(part):
            raise LeftAlone(f"its {change.path} has hooks, which would see other inputs")
        if part is not module and isinstance(part, Twin):
            raise LeftAlone(f"its {change.path} was swapped already")


def _owners(model: nn.Module) -> Counter[int]:
    """Of how many modules each module is a child."""
    return Counter(
        id(child) for m in model.modules() for child in m._modules.values() if child is not None
    )


def _pair(module: nn.Module, candidate: Candidate) -> tuple[nn.Module, nn.Module]:
    """Two copies with the same random weights, one of them swapped."""
    try:
        plain = randomised(module)
        twin = copied(plain)
    except Exception as error:  # whatever the user's own attributes raise
        raise LeftAlone(f"it cannot be copied to be compared: {error}") from error
    for change in candidate.changes:
        become_twin(twin.get_submodule(change.path), change.kind, change.plan)
    return plain, twin
