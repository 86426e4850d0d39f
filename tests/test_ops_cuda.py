"""Every op that runs on CUDA: the reference, streams, graphs, and no synchronisation.

Without a CUDA device these are not collected (conftest.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from checks import assert_as_exact_as_torch, assert_close, forward_backward, in_fp64, normal_like
from contract import over_ops, short
from opspec import SPECS
from specs.base import FLOATS, OpSpec

pytestmark = pytest.mark.cuda
on_cuda = over_ops([spec for spec in SPECS if "cuda" in spec.devices])


@pytest.fixture(autouse=True)
def full_fp32() -> Iterator[None]:
    """cudnn rounds fp32 to tf32 unless told otherwise."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@on_cuda
@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_as_exact_as_torch(spec: OpSpec, dtype: torch.dtype) -> None:
    case, wanted = spec.large, spec.differentiable(spec.large)
    tensors = spec.tensors(case, dtype, "cuda")
    mine = forward_backward(spec.op, tensors, case.keywords, wanted)
    cotangent = normal_like(mine[0])
    plain = forward_backward(spec.plain or spec.reference, tensors, case.keywords, wanted, cotangent)
    exact = forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent.double())
    for i, (got, torchs, true) in enumerate(zip(mine, plain, exact, strict=True)):
        if dtype is torch.float64:
            assert_close(got, true)
        else:
            assert_as_exact_as_torch(got, torchs, true, f"result {i}")


@on_cuda
def test_side_stream(spec: OpSpec) -> None:
    """Input that a slow kernel on the same side stream has yet to write is waited for."""
    tensors = spec.tensors(spec.large, torch.float32, "cuda")
    expected = spec.op(*tensors, **spec.large.keywords)
    late = torch.zeros_like(tensors[0])
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late.copy_(tensors[0])
        got = spec.op(late, *tensors[1:], **spec.large.keywords)
    torch.cuda.synchronize()
    assert_close(got, expected.double())


@on_cuda
def test_graph_capture(spec: OpSpec) -> None:
    """Forward and backward are captured once and replayed on new input."""
    case, wanted = spec.large, spec.differentiable(spec.large)
    tensors = spec.tensors(case, torch.float32, "cuda")
    cotangent = normal_like(spec.op(*tensors, **case.keywords))
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # libraries make their workspaces before the capture
        for _ in range(2):
            forward_backward(spec.op, tensors, case.keywords, wanted, cotangent)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_backward(spec.op, tensors, case.keywords, wanted, cotangent)
    for held, new in zip(tensors, spec.tensors(case, torch.float32, "cuda", seed=1), strict=True):
        if held is not None:
            held.copy_(new)
    graph.replay()
    expected = forward_backward(spec.op, tensors, case.keywords, wanted, cotangent)
    for got, true in zip(captured, expected, strict=True):
        assert_close(got, true.double())


@on_cuda
def test_no_synchronisation(spec: OpSpec) -> None:
    case, wanted = spec.large, spec.differentiable(spec.large)
    tensors = spec.tensors(case, torch.float32, "cuda")
    cotangent = normal_like(spec.op(*tensors, **case.keywords))
    torch.cuda.set_sync_debug_mode("error")
    try:
        forward_backward(spec.op, tensors, case.keywords, wanted, cotangent)
    finally:
        torch.cuda.set_sync_debug_mode("default")
