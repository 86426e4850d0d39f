"""The CUDA kernels of gaussian_kl, emulated: every way of sharing rows among threads, every layout."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from checks import assert_as_exact_as_torch, assert_close, forward_backward, in_fp64, normal_like
from contract import short
from emulated import SCHEDULES, shuffled_emulation
from torch import Tensor

from genfast import ops, reference

Tensors = list[Tensor]


@pytest.fixture(autouse=True)
def emulated() -> Iterator[ModuleType]:
    with shuffled_emulation() as module:
        yield module


def points(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def mine(tensors: Tensors, cotangent: Tensor | None = None) -> Tensors:
    return forward_backward(ops.gaussian_kl, tensors, {}, range(len(tensors)), cotangent)


def exact(tensors: Tensors, cotangent: Tensor) -> Tensors:
    wanted = range(len(tensors))
    return forward_backward(reference.gaussian_kl, in_fp64(tensors), {}, wanted, cotangent.double())


@pytest.mark.parametrize("operands", [2, 4], ids=["standard", "prior"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=short)
@pytest.mark.parametrize("dim", [1, 2, 7, 8, 40, 128, 129, 520, 1032])
def test_every_dimension(dim: int, dtype: torch.dtype, operands: int) -> None:
    """Several rows a warp, a warp a row and a block a row, by 16 bytes and by elements."""
    tensors = [0.7 * points(21, dim, dtype=dtype, seed=seed) for seed in range(operands)]
    got = mine(tensors)
    cotangent = normal_like(got[0])
    if dtype is torch.float64:
        for result, true in zip(got, exact(tensors, cotangent), strict=True):
            assert_close(result, true)
        return
    torchs = forward_backward(reference.gaussian_kl, tensors, {}, range(operands), cotangent)
    for i, items in enumerate(zip(got, torchs, exact(tensors, cotangent), strict=True)):
        assert_as_exact_as_torch(*items, f"result {i}")


LAYOUTS = {
    "transposed": lambda t: t.mT.contiguous().mT,
    "rows transposed": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "padded rows": lambda t: torch.cat([t, torch.full_like(t, torch.nan)], -1)[..., : t.shape[-1]],
    "unaligned": lambda t: torch.cat([points(1), t.flatten()])[1:].view(t.shape),
    "one number a row": lambda t: t[..., :1].expand(t.shape),
    "one row": lambda t: t[:1, :1].expand(t.shape),
    "one number": lambda t: t[0, 0, 0].expand(t.shape),
}


@pytest.mark.parametrize("dim", [16, 640])
@pytest.mark.parametrize("operand", range(4))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, operand: int, dim: int) -> None:
    tensors = [0.7 * points(3, 5, dim, seed=seed) for seed in range(4)]
    tensors[operand] = LAYOUTS[layout](tensors[operand])
    got = mine(tensors)
    for result, true in zip(got, exact(tensors, normal_like(got[0])), strict=True):
        assert_close(result, true)


@pytest.mark.parametrize("dim", [5, 200, 701])
def test_equal_under_every_schedule(dim: int, emulated: ModuleType) -> None:
    """Warps of a block exchange sums in shared memory."""
    tensors = [points(40, dim, seed=seed) for seed in range(4)]
    runs = []
    for schedule in SCHEDULES:
        emulated.configure(*schedule)
        runs.append(mine(tensors))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, runs[0], strict=True))


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_more_rows_than_blocks(order: str, emulated: ModuleType) -> None:
    """Blocks, of which 16384 are launched at most, go on with further rows; no warp runs ahead."""
    emulated.configure(order)
    mean = points(16387, 1).expand(16387, 640)
    y = ops.gaussian_kl(mean, points(640, seed=1))
    assert_close(y, reference.gaussian_kl(mean.double(), points(640, seed=1).double()))


def test_no_dimensions_diverge_by_nothing() -> None:
    assert torch.equal(ops.gaussian_kl(points(3, 0), points(3, 0)), torch.zeros(3))
