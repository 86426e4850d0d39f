"""Which calls the tests of a GPU make: every op and, where genfast has kernels, with those too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from checks import assert_close
from opspec import SPECS
from specs.base import Case, OpSpec
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """An op, and whether its convolutions are genfast's own."""

    spec: OpSpec
    own: bool

    def __str__(self) -> str:
        return self.spec.name + ("-own" if self.own else "")

    @property
    def vector(self) -> Case:
        return self.spec.vector or self.spec.large

    def assert_same(self, got: list[Tensor], expected: list[Tensor]) -> None:
        """The same bits where the kernels are genfast's; cuDNN may choose another algorithm."""
        for mine, true in zip(got, expected, strict=True):
            if self.own or self.spec.registered:
                assert torch.equal(mine, true)
            else:
                assert_close(mine, true.double())


ON_CUDA = [spec for spec in SPECS if "cuda" in spec.devices]
OURS = [Call(spec, bool(spec.cuda_only)) for spec in ON_CUDA if spec.registered or spec.cuda_only]
ALL = [Call(spec, own=False) for spec in ON_CUDA] + [call for call in OURS if call.own]


def channels_last(tensors: list[Tensor | None]) -> list[Tensor | None]:
    """The images and maps among them, channels-last; a weight stays as it is."""
    first, *others = tensors
    assert first is not None
    if first.ndim == 4:
        first = first.contiguous(memory_format=torch.channels_last)
    return [first, *others]
