"""Every op on a GPU: device_suite.py, and what the emulation has nothing to say about.

Without a CUDA device these are not collected (conftest.py); the suite itself runs emulated.
"""

from __future__ import annotations

import pytest
import torch
from checks import assert_as_exact_as_torch, forward_backward, in_fp64, normal_like
from device_calls import ALL, OURS, Call, channels_last
from device_suite import OpsOnDevice
from places import Gpu, own_kernels

pytestmark = pytest.mark.cuda


class TestOnCuda(OpsOnDevice):
    place = Gpu()
    calls = ALL


@pytest.mark.parametrize("call", [call for call in OURS if call.own], ids=str)
def test_tf32_is_as_exact_as_cudnns(call: Call) -> None:
    """fp32 follows cuDNN's switch: rounded to TF32 as there, where that is allowed."""
    spec, case = call.spec, call.vector
    tensors = channels_last(spec.tensors(case, torch.float32, "cuda"))
    wanted = spec.differentiable(case)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with own_kernels(True):
            mine = forward_backward(spec.op, tensors, case.keywords, wanted)
        cotangent = normal_like(mine[0])
        plain = forward_backward(spec.reference, tensors, case.keywords, wanted, cotangent)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    exact = forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent.double())
    for i, items in enumerate(zip(mine, plain, exact, strict=True)):
        assert_as_exact_as_torch(*items, f"result {i}")


# What else the compiler would like.
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.parametrize("call", OURS, ids=str)
def test_inductor(call: Call) -> None:
    """The default compiler, with a graph of the backward pass too."""
    with own_kernels(call.own):
        TestOnCuda().check_compiled(call, "inductor")
