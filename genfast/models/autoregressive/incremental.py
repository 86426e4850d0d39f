"""A model's pixel program, kept as long as its parameters stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from genfast.sampling import PixelSampler, Program

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class SamplerCache:
    """The packed program of a model. It is no part of the model's state: copies and pickles lack it."""

    def __init__(self) -> None:
        self._sampler: PixelSampler | None = None
        self._fingerprint: object = None

    def sampler(self, model: nn.Module, program: Callable[[], Program]) -> PixelSampler:
        """The sampler of `program()`, made anew if a parameter of `model` has changed."""
        fingerprint = _fingerprint(model)
        sampler = self._sampler
        if sampler is None or fingerprint != self._fingerprint:
            with torch.no_grad():
                sampler = PixelSampler(program())
            self._sampler, self._fingerprint = sampler, fingerprint
        return sampler

    def __deepcopy__(self, memo: object) -> SamplerCache:
        return SamplerCache()

    def __reduce__(self) -> tuple[type[SamplerCache], tuple[()]]:
        return SamplerCache, ()


def _fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """Where the parameters are and the sums of their bits.

    PyTorch's version counters are not enough: they do not see what is written through `.data`, as many
    implementations of moving averages do.
    """
    tensors = [t.detach() for t in (*model.parameters(), *model.buffers())]
    sums = [t.contiguous().view(_BITS.get(t.element_size(), torch.uint8)).sum() for t in tensors]
    places = tuple((t.data_ptr(), t.dtype, t.device, t.shape) for t in tensors)
    return (*places, *torch.stack(sums).tolist()) if sums else places
