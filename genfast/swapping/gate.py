"""A module that is nothing but the gate tanh(a) * sigmoid(b), known by what it computes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import Tensor, nn

from genfast.ops import gated_activation
from genfast.swapping.recognition import Candidate, Change
from genfast.swapping.twin import Twin


class GateTwin(Twin):
    """The gate in one pass over memory."""

    def forward(self, x: Tensor) -> Tensor:
        return gated_activation(x)


def gate(module: nn.Module) -> Iterator[Candidate]:
    """Modules without parameters, buffers or children whose forward takes one argument."""
    if any(owned for owned in (module._modules, module._parameters, module._buffers)):
        return
    arguments = list(inspect.signature(type(module).forward).parameters.values())[1:]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(arguments) == 1 and arguments[0].kind in positional:
        yield Candidate("gated_activation", (Change("", GateTwin),), (8, 6, 2))
