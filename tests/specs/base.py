"""What is known of an op: how to call it, what it must refuse and what it claims.

A claim is a column of the contract table, and is proved by the tests that contract.proves() runs for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import genfast

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# What every op claims; see contract.CLAIMS for the words of each.
COMMON = frozenset(
    {
        "forward", "backward", "vmap", "fullgraph", "export", "autocast", "any strides",
        "64-bit addresses", "empty batch", "deterministic", "threads", "fork",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A call without its numbers: the shapes of its tensors (None: not given) and its keywords."""

    name: str
    shapes: tuple[tuple[int, ...] | None, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bad:
    """A call that must be refused; the message must contain every string of `says`."""

    name: str
    call: Callable[[Callable[..., Any]], Any]
    error: type[Exception]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Registered:
    """An op under torch.ops.genfast, and its arguments made from those of the public function."""

    name: str
    arguments: Callable[..., tuple[Any, ...]]
    # Some of what it returns is memory as it was, unless torch.use_deterministic_algorithms forbids it.
    leaves_memory: bool = False


@dataclass(frozen=True)
class OpSpec:
    name: str  # of the public function in genfast.ops and genfast.reference
    arguments: tuple[str, ...]  # the tensors it takes, in order
    cases: tuple[Case, ...]  # small, one for every option
    large: Case  # large enough for vector code, more than one block and two threads
    draw: st.SearchStrategy[Case]  # any shapes, empty ones included
    bad: tuple[Bad, ...]
    claims: frozenset[str]
    empty: Case  # with an empty batch
    # "input": the result has the dtype of x; "lower": autocast's; "full": fp32 where x has 16 bits.
    autocast: str
    registered: tuple[Registered, ...] = ()  # empty for a composition of other ops
    cuda_only: tuple[Registered, ...] = ()  # ops without a CPU kernel, tested by emulation
    vector: Case | None = None  # channels in multiples of 16 bytes: the fast paths of CUDA kernels
    by_name: bool = False  # the function takes some of its tensors by keyword only
    integers: frozenset[str] = frozenset()  # arguments that are integers whatever the dtype
    constant: frozenset[str] = frozenset()  # arguments without a gradient
    tied: frozenset[str] = frozenset()  # those whose batch and image size are the first's
    fill: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)  # normal where absent
    # Elements whose values must not matter and whose gradient is zero, by argument.
    ignored: Callable[[Case], Mapping[str, Tensor]] | None = None
    # What a PyTorch user would write, where `reference` is written to be read and sums otherwise.
    plain: Callable[..., Tensor] | None = None
    # One floating tensor of what the op (or its reference, given first) returns for these tensors, where
    # that is something else.
    result: Callable[..., Tensor] | None = None
    images: bool = True  # some case's first tensor is a batch of images, which may be channels-last
    one_dtype: bool = True  # outside autocast tensors of different dtypes are refused
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def op(self) -> Callable[..., Tensor]:
        return self._positional(getattr(genfast.ops, self.name))

    @property
    def reference(self) -> Callable[..., Tensor]:
        return self._positional(getattr(genfast.reference, self.name))

    def _positional(self, function: Callable[..., Any]) -> Callable[..., Tensor]:
        """It takes its tensors by position and returns one."""
        if self.by_name:
            function = functools.partial(_by_name, function, self.arguments)
        return function if self.result is None else functools.partial(self.result, function)

    def tensors(
        self, case: Case, dtype: torch.dtype, device: str = "cpu", seed: int = 0
    ) -> list[Tensor | None]:
        """The numbers of a case: for every dtype the same fp64 ones, rounded."""
        generator = torch.Generator().manual_seed(seed)
        made: list[Tensor | None] = []
        for name, shape in zip(self.arguments, case.shapes, strict=True):
            if shape is None:
                made.append(None)
                continue
            fill = self.fill.get(name, torch.randn)
            value = fill(shape, generator=generator, dtype=torch.float64)
            kept = torch.int64 if name in self.integers else dtype
            made.append(value.to(device=device, dtype=kept))
        return made

    def resized(self, case: Case, batch: int, grow: int = 0) -> Case:
        """The case with another batch, and images larger by `grow` each way."""

        def resize(name: str, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
            if shape is None or (name != self.arguments[0] and name not in self.tied):
                return shape
            return (batch, *shape[1:2], *(n + grow for n in shape[2:]))

        shapes = (resize(name, shape) for name, shape in zip(self.arguments, case.shapes, strict=True))
        return Case("resized", tuple(shapes), case.keywords)

    def under_autocast(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of the result of arguments of `dtype` under autocast to bf16."""
        if dtype is torch.float64 or self.autocast == "input":
            return dtype
        return torch.bfloat16 if self.autocast == "lower" else torch.float32

    def differentiable(self, case: Case) -> list[int]:
        """Positions of the tensors of a case that have a gradient."""
        pairs = enumerate(zip(self.arguments, case.shapes, strict=True))
        return [i for i, (name, shape) in pairs if shape is not None and name not in self.constant]


def _by_name(
    function: Callable[..., Tensor], names: tuple[str, ...], *tensors: Any, **keywords: Any
) -> Tensor:
    named = dict(zip(names, tensors, strict=False))
    return function(**named, **keywords)


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)
