"""What `genfast.verify` measures of one model: results, times in turn with another, peak memory."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def outputs_of(model: nn.Module, inputs: Sequence[Any]) -> list[Tensor]:
    """The floating-point tensors in what the model gives."""
    leaves = pytree.tree_leaves(model(*inputs))
    return [y for y in leaves if isinstance(y, Tensor) and y.is_floating_point()]


def gradients(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Gradients of sum <outputs, cotangents> by name, of what the outputs depend on."""
    pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not pairs or not wanted:
        return {}
    ys, cs = zip(*pairs, strict=True)
    got = torch.autograd.grad(ys, list(wanted.values()), cs, allow_unused=True)
    return {name: g for name, g in zip(wanted, got, strict=True) if g is not None}


def differentiable(model: nn.Module, inputs: Sequence[Any]) -> dict[str, Tensor]:
    """By name, the parameters and inputs that take gradients."""
    named: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.requires_grad:
            named[f"input {i}"] = x
    return named


def detached(inputs: Sequence[Any], dtype: torch.dtype | None = None) -> list[Any]:
    """Copies that take gradients where they are floating-point, in `dtype` if it is given."""
    copies: list[Any] = []
    for x in inputs:
        if isinstance(x, Tensor) and x.is_floating_point():
            x = x.detach().to(dtype or x.dtype, copy=True).requires_grad_()
        elif isinstance(x, Tensor):
            x = x.detach().clone()
        copies.append(x)
    return copies


@contextmanager
def seeded(devices: Sequence[torch.device]) -> Iterator[None]:
    """The same random numbers in every such block; the state of the generators is put back."""
    indices = [d.index for d in devices if d.type == "cuda" and d.index is not None]
    with torch.random.fork_rng(devices=indices):
        torch.manual_seed(0)
        yield


def median_times(
    sides: Sequence[Callable[[], Any]], seconds: float, devices: Sequence[torch.device]
) -> list[float]:
    """Median milliseconds of each side, called in turn: A B A B ... for about `seconds`."""
    samples: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    end = time.perf_counter() + seconds
    while len(samples[0]) < 3 or time.perf_counter() < end:
        for side, times in zip(sides, samples, strict=True):
            _synchronise(devices)
            start = time.perf_counter()
            side()
            _synchronise(devices)
            times.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(times) for times in samples]


def peak_bytes(step: Callable[[], Any], devices: Sequence[torch.device]) -> int:
    """The most memory that the step's tensors hold at once, what was there before it left out."""
    cuda = [d for d in devices if d.type == "cuda"]
    if not cuda:
        with _PeakMemory() as memory:
            step()
        return int(memory.peak)
    _synchronise(cuda)
    before = torch.cuda.memory_allocated(cuda[0])
    torch.cuda.reset_peak_memory_stats(cuda[0])
    step()
    _synchronise(cuda)
    return torch.cuda.max_memory_allocated(cuda[0]) - before


class _PeakMemory(TorchDispatchMode):
    """Counts the bytes of the storages that operations return, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        old = {x.untyped_storage()._cdata for x in pytree.tree_leaves(args) if isinstance(x, Tensor)}
        for tensor in pytree.tree_leaves(results):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive and storage._cdata not in old:
                    self._track(storage)
        return results

    def _track(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        self.alive.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self.alive.discard(address)
            self.now -= size

        weakref.finalize(storage, freed)


def _synchronise(devices: Sequence[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
