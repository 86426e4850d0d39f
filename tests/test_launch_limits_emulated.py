"""Launches stay within the limits of every GPU that the package is built for.

The emulated device refuses a launch that a GPU would refuse: too many threads, too wide a grid, more
shared memory than a block may have. That differs by architecture: what depends on it has to be chosen by
the device at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from checks import assert_close, forward_backward, in_fp64, normal_like
from device_calls import OURS, Call, channels_last
from emulated import emulation
from places import exact_convolutions, own_kernels
from specs.base import Case, OpSpec
from specs.lstm_scan import DIAGONAL_LSTM, ROW_LSTM, shapes

from genfast.ops import _native, lstm_scan_cuda

#: KiB of shared memory of a block (CUDA C++ Programming Guide, table of compute capabilities).
SHARED_MEMORY = {"sm_80": 163, "sm_86, sm_89, sm_120": 99, "sm_90, sm_100": 227}
RESIDENT = 1


@pytest.fixture(params=SHARED_MEMORY)
def device(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with emulation() as module:
        module.set_shared_memory(SHARED_MEMORY[request.param] << 10)
        yield module
        module.set_shared_memory(227 << 10)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("call", OURS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=["bf16", "fp64"])
def test_every_op_fits(call: Call, dtype: torch.dtype) -> None:
    """The shapes with the largest tiles: channels-last, whole vectors."""
    tensors = channels_last(call.spec.tensors(call.vector, dtype))
    wanted = call.spec.differentiable(call.vector)
    with exact_convolutions(), own_kernels(call.own):
        results = forward_backward(call.spec.op, tensors, call.vector.keywords, wanted)
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
def test_a_scan_stays_in_a_block_where_it_fits(spec: OpSpec, device: ModuleType) -> None:
    """80 units in bf16: weights of 150 (row) and 100 KiB, to which some 12 of states come."""
    case = Case("wide", shapes(spec.name, 1, 80, 2, 3), {})
    tensors = spec.tensors(case, torch.bfloat16)
    wanted = spec.differentiable(case)
    results = forward_backward(spec.op, tensors, {}, wanted)
    upstream = normal_like(results[0]).double()
    exact = forward_backward(spec.reference, in_fp64(tensors), {}, wanted, upstream)
    for got, true in zip(results, exact, strict=True):
        assert_close(got, true)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm_scan_cuda, "CHOICE", (RESIDENT, 0))
        if device.shared_memory() > 99 << 10:
            assert torch.equal(spec.op(*tensors), results[0])
        else:
            with pytest.raises(ValueError, match="bytes of shared memory, the device has 101376"):
                spec.op(*tensors)


def test_few_bytes_are_zeroed_for_a_scan_of_many() -> None:
    """One record of 24 bytes a tile, of 2048 or (fp64) 1024 logits; of rows, by their size."""
    many = 10_000_000
    with emulation() as module:
        for dtype, tile in ((torch.float32, 2048), (torch.float64, 1024), (torch.bfloat16, 2048)):
            got = module.rejection_accept_workspace_cuda(_native.DTYPES[dtype], many)
            assert got == 24 * -(-many // tile)
        assert module.rejection_compact_workspace_cuda(many, 8) == 24 * -(-many // 2048)
        assert module.rejection_compact_workspace_cuda(1024, 1 << 20) == 24 * 128
