"""The LSTM scans' CUDA kernels, every plan and product forced: emulated here, and on a GPU where one is.

A plan says whether an image stays in one block or takes a launch a line, a product whether tensor cores
multiply. What holds of every op on CUDA is in device_suite.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from checks import assert_as_exact_as_torch, assert_close, forward_backward, in_fp64, normal_like
from contract import short
from emulated import SCHEDULES, emulation
from specs.base import FLOATS, Case, OpSpec
from specs.lstm_scan import DIAGONAL_LSTM, ROW_LSTM, shapes
from torch import Tensor

from genfast.ops import lstm_scan_cuda

AUTOMATIC, RESIDENT, STEPWISE = 0, 1, 2
SIMT, MMA = 1, 2
CHOICES = {
    f"{plan_name}-{product_name}": (plan, product)
    for plan_name, plan in (("resident", RESIDENT), ("stepwise", STEPWISE))
    for product_name, product in (("simt", SIMT), ("mma", MMA))
}
SIZES = [(1, (3, 4)), (3, (1, 7)), (17, (6, 1)), (20, (4, 7)), (16, (5, 3)), (30, (2, 3))]

every_spec = pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
every_dtype_and_choice = pytest.mark.parametrize(
    ("dtype", "choice"),
    [
        pytest.param(dtype, choice, id=f"{short(dtype)}-{name}")
        for dtype in FLOATS
        for name, choice in CHOICES.items()
        if dtype != torch.float64 or choice[1] == SIMT  # tensor cores of this path have no fp64
    ],
)


@pytest.fixture
def emulated() -> Iterator[ModuleType]:
    with emulation() as module:
        yield module
        module.configure("forward", 0)


@contextmanager
def chosen(choice: tuple[int, int]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm_scan_cuda, "CHOICE", choice)
        yield


def case_of(
    spec: OpSpec, hidden: int, size: tuple[int, int], n: int = 2, states: str = "whole", **keywords: Any
) -> Case:
    if spec.name == "row_lstm":
        keywords.pop("reverse", None)
    return Case("forced", shapes(spec.name, n, hidden, *size, states), keywords)


def run(
    spec: OpSpec, case: Case, tensors: list[Tensor | None], choice: tuple[int, int] = (0, 0)
) -> list[Tensor]:
    with chosen(choice):
        return forward_backward(spec.op, tensors, case.keywords, spec.differentiable(case))


def exact(spec: OpSpec, case: Case, tensors: list[Tensor | None], like: Tensor) -> list[Tensor]:
    wanted, cotangent = spec.differentiable(case), normal_like(like).double()
    return forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent)


# ---- every plan and product ----------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "size"), SIZES, ids=lambda value: str(value).replace(", ", "x"))
@every_dtype_and_choice
@every_spec
def test_forced(
    spec: OpSpec,
    dtype: torch.dtype,
    choice: tuple[int, int],
    hidden: int,
    size: tuple[int, int],
    device: str,
) -> None:
    """Odd numbers of units, one row, one column, more rows than columns and fewer."""
    case = case_of(
        spec, hidden, size, reverse=hidden % 2 == 1, saved="all" if hidden == 20 else "minimal"
    )
    tensors = spec.tensors(case, dtype, device)
    mine = run(spec, case, tensors, choice)
    for got, true in zip(mine, exact(spec, case, tensors, mine[0]), strict=True):
        assert_close(got, true)


@pytest.mark.parametrize("product", [SIMT, MMA], ids=["simt", "mma"])
@every_spec
def test_more_tiles_than_workers(spec: OpSpec, product: int, device: str) -> None:
    """Lines so long that a worker has several tiles of each: cell states then stand in shared memory."""
    size = (2, 129) if spec is ROW_LSTM else (129, 2)
    for saved in ("minimal", "all"):
        case = case_of(spec, 20, size, n=1, saved=saved)
        tensors = spec.tensors(case, torch.float32, device)
        mine = run(spec, case, tensors, (RESIDENT, product))
        for got, true in zip(mine, exact(spec, case, tensors, mine[0]), strict=True):
            assert_close(got, true)


@every_dtype_and_choice
@every_spec
def test_any_strides(spec: OpSpec, dtype: torch.dtype, choice: tuple[int, int], device: str) -> None:
    """The same bits from channels-last gates, and from every second element of a buffer of NaN."""
    case = case_of(spec, 18, (3, 5), reverse=True)
    tensors = spec.tensors(case, dtype, device)
    expected = run(spec, case, tensors, choice)
    last = [tensors[0].contiguous(memory_format=torch.channels_last), *tensors[1:]]
    views = [torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0] for t in tensors]
    for other in (last, views):
        for got, true in zip(run(spec, case, other, choice), expected, strict=True):
            assert_close(got, true.double())
        # Sums of the parameters' gradients may be added up in another order for another layout.
        hidden, grad_gates, *_ = run(spec, case, other, choice)
        assert torch.equal(hidden, expected[0])
        assert torch.equal(grad_gates, expected[1])


@every_dtype_and_choice
@every_spec
def test_saved_modes_give_the_same_bits(
    spec: OpSpec, dtype: torch.dtype, choice: tuple[int, int], device: str
) -> None:
    """Gates computed again from the stored states are those that forward had."""
    for hidden in (16, 21):
        runs = []
        for saved in ("minimal", "all"):
            case = case_of(spec, hidden, (4, 6), saved=saved)
            runs.append(run(spec, case, spec.tensors(case, dtype, device), choice))
        for minimal, everything in zip(*runs, strict=True):
            assert torch.equal(minimal, everything)


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@every_spec
def test_plans_give_the_same_bits(spec: OpSpec, dtype: torch.dtype, device: str) -> None:
    """Which plan is taken depends on the device; results do not."""
    for product in (SIMT, MMA) if dtype != torch.float64 else (SIMT,):
        case = case_of(spec, 21, (4, 6), reverse=True)
        tensors = spec.tensors(case, dtype, device)
        resident = run(spec, case, tensors, (RESIDENT, product))
        for got, other in zip(resident, run(spec, case, tensors, (STEPWISE, product)), strict=True):
            assert torch.equal(got, other)


@every_dtype_and_choice
@every_spec
def test_equal_under_every_schedule(
    spec: OpSpec, dtype: torch.dtype, choice: tuple[int, int], emulated: ModuleType
) -> None:
    for hidden, size in ((5, (2, 5)), (18, (4, 3))):
        case = case_of(spec, hidden, size, reverse=True)
        tensors, runs = spec.tensors(case, dtype), []
        for schedule in SCHEDULES:
            emulated.configure(*schedule)
            runs.append(run(spec, case, tensors, choice))
        for other in runs[1:]:
            for got, first in zip(other, runs[0], strict=True):
                assert torch.equal(got, first), "the result depends on the schedule: a race"


# ---- which plan is taken -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=short)
@every_spec
def test_weights_that_no_block_holds(spec: OpSpec, dtype: torch.dtype, device: str) -> None:
    """A launch a line is taken of itself, and is right; staying in one block is refused."""
    case = case_of(spec, 150, (3, 2), states="shared", reverse=True)
    tensors = spec.tensors(case, dtype, device)
    with pytest.raises(ValueError, match=r"resident scan of 150 units.*bytes of shared memory"):
        run(spec, case, tensors, (RESIDENT, AUTOMATIC))
    mine = run(spec, case, tensors)
    plain = forward_backward(spec.reference, tensors, case.keywords, spec.differentiable(case))
    for i, items in enumerate(zip(mine, plain, exact(spec, case, tensors, mine[0]), strict=True)):
        assert_as_exact_as_torch(*items, f"result {i}")


def test_tensor_cores_have_no_fp64(device: str) -> None:
    case = case_of(ROW_LSTM, 4, (2, 2))
    with pytest.raises(ValueError, match="no fp64"):
        run(ROW_LSTM, case, ROW_LSTM.tensors(case, torch.float64, device), (AUTOMATIC, MMA))
