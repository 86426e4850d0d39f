"""The CUDA kernels, run on the CPU: right against the reference, and under every schedule the same.

Shapes are small: a thread costs what a function call costs. Most tests are those that a GPU gets too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from checks import forward_backward
from contract import short
from device_calls import OURS, Call
from device_suite import OpsOnDevice
from emulated import SCHEDULES, shuffled_emulation
from opspec import DIFFERENTIABLE
from places import Emulated, own_kernels
from specs.base import FLOATS


@pytest.fixture(autouse=True)
def emulated() -> Iterator[ModuleType]:
    with shuffled_emulation() as module:
        yield module


class TestEmulated(OpsOnDevice):
    place = Emulated()
    calls = OURS

    @pytest.mark.parametrize("dtype", FLOATS, ids=short)
    def test_equal_under_every_schedule(
        self, call: Call, dtype: torch.dtype, emulated: ModuleType
    ) -> None:
        for case in call.spec.cases:
            tensors, wanted = call.spec.tensors(case, dtype), call.spec.differentiable(case)
            runs = []
            for schedule in SCHEDULES:
                emulated.configure(*schedule)
                runs.append(forward_backward(call.spec.op, tensors, case.keywords, wanted))
            for other in runs[1:]:
                for got, first in zip(other, runs[0], strict=True):
                    assert torch.equal(got, first), "the result depends on the schedule: a race"


@pytest.mark.parametrize("call", [call for call in OURS if call.spec in DIFFERENTIABLE], ids=str)
def test_derivatives(call: Call) -> None:
    """Gradients, and gradients of gradients, against finite differences in fp64."""
    spec = call.spec
    case = min(spec.cases, key=lambda c: sum(math.prod(s) for s in c.shapes if s is not None))
    wanted = spec.differentiable(case)
    inputs = spec.tensors(case, torch.float64)
    leaves = [inputs[i].requires_grad_() for i in wanted]

    def function(*leaves: torch.Tensor) -> torch.Tensor:
        arguments = list(inputs)
        for i, leaf in zip(wanted, leaves, strict=True):
            arguments[i] = leaf
        return spec.op(*arguments, **case.keywords)

    with own_kernels(call.own):
        # Sampled directions instead of every element: a launch takes milliseconds here.
        torch.autograd.gradcheck(function, leaves, fast_mode=True)
        torch.autograd.gradgradcheck(function, leaves, fast_mode=True)
