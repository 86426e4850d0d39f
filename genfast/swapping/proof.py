"""Whether a module and its twin compute the same: outputs and gradients in fp64 on random inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from genfast.swapping.recognition import without_users_hooks
from genfast.swapping.twin import Twin

#: Largest difference allowed, of the largest value.
TOLERANCE = 1e-12

_SIZES = ((2, 7, 6), (1, 3, 8), (2, 1, 1))  # batch, height, width


def copied(module: nn.Module) -> Any:
    """A deep copy, also of a module that holds results of a forward pass, as weight_norm does."""
    memo: dict[int, Any] = {}
    for inner in module.modules():
        for value in inner.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def randomised(module: nn.Module) -> nn.Module:
    """A copy in fp64 on the CPU whose parameters are random, so that no zero hides a difference.

    The user's hooks are left out: what they do, they shall not do for a probe.
    """
    clone: nn.Module = copied(module).cpu().double()
    for inner in clone.modules():
        without_users_hooks(inner)
    generator = torch.Generator("cpu").manual_seed(0)
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.requires_grad_()
            parameter.normal_(generator=generator)
    return clone


def difference(plain: nn.Module, twin: nn.Module, channels: Sequence[int]) -> str:
    """What differs between a module and its twin, "" if nothing does; both are in fp64.

    Args:
        plain: as it is; its forward may change it.
        twin: a copy of it of which modules are twins.
        channels: of the probes.
    """
    ignored = ignored_taps(twin)
    proved = False
    failure = ""
    for probe in _probes(channels):
        try:
            wanted = _run(plain, probe)
        except Exception as error:  # whatever the user's own code raises
            failure = f"its forward raises {type(error).__name__} on a probe {tuple(probe.shape)}"
            continue
        try:
            got = _run(twin, probe)
        except (RuntimeError, ValueError, TypeError) as error:
            return f"the twin raises {type(error).__name__} where it does not: {error}"
        if wanted.keys() != got.keys():
            return "it gives other outputs or gradients"
        for name, value in wanted.items():
            dead = ignored.get(name.removeprefix("gradient of "))
            reason = _differs(name, value, got[name], dead)
            if reason:
                return reason
        proved = True
    return "" if proved else failure


def ignored_taps(model: nn.Module) -> dict[str, Tensor]:
    """Where twins let a parameter of the model have no effect, by its name."""
    taps: dict[str, Tensor] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for module in model.modules():
        if isinstance(module, Twin):
            for name, dead in module.ignored_taps().items():
                parameter = module.get_parameter(name)
                taps[names[id(parameter)]] = dead
    return taps


def _probes(channels: Sequence[int]) -> Iterator[Tensor]:
    generator = torch.Generator("cpu").manual_seed(1)
    for width in channels:
        for batch, height, across in _SIZES:
            size = (batch, width, height, across)
            yield torch.randn(size, dtype=torch.float64, generator=generator, device="cpu")


def _run(module: nn.Module, probe: Tensor) -> dict[str, Tensor]:
    """Outputs and gradients by name, whatever the context that the user is in."""
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        return _run_with_gradients(module, probe)


def _run_with_gradients(module: nn.Module, probe: Tensor) -> dict[str, Tensor]:
    x = probe.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a dropout inside draws the same for both
        outputs = [y for y in pytree.tree_leaves(module(x)) if isinstance(y, Tensor)]
    results = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
    wanted = {"input": x, **dict(module.named_parameters())}
    generator = torch.Generator("cpu").manual_seed(2)
    cotangents = [
        torch.randn(y.shape, dtype=y.dtype, generator=generator, device="cpu") for y in outputs
    ]
    gradients = torch.autograd.grad(outputs, list(wanted.values()), cotangents, allow_unused=True)
    pairs = zip(wanted, gradients, strict=True)
    return results | {f"gradient of {name}": g for name, g in pairs if g is not None}


def _differs(name: str, wanted: Tensor, got: Tensor, dead: Tensor | None) -> str:
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return (
            f"its {name} is {wanted.dtype} of shape {tuple(wanted.shape)}, the twin's {got.dtype} of "
            f"{tuple(got.shape)}"
        )
    if dead is not None:
        wanted = wanted.masked_fill(dead, 0)
        if got.masked_select(dead).any():
            return f"{name} is not zero at dead taps"
    if not wanted.numel():
        return ""
    scale = max(1.0, wanted.abs().max().item())
    error = (wanted - got).abs().max().item()
    return "" if error <= TOLERANCE * scale else f"its {name} differs from the twin's by {error:.1e}"
