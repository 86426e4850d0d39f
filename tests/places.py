"""Where the kernels run that device_suite.py tests: on a GPU, or emulated on the CPU.

The emulated place stands in for streams, graphs and the like with the least that lets the same tests
run, so that a mistake in a test shows without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from specs.base import Case, OpSpec
from torch import Tensor

from genfast.ops import _native, conv_rule

Results = list[Tensor]


@contextmanager
def own_kernels(own: bool) -> Iterator[None]:
    """Inside, CUDA convolutions are genfast's own (except under torch.func), or none of them is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_rule, "own_kernel", lambda *_: own and not _native.transforms_active())
        yield


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Inside, fp32 is not rounded to TF32, and cuDNN gives the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


class Gpu:
    device = "cuda"

    def large(self, spec: OpSpec) -> Case:
        """Enough for several blocks, where that is what a test is about."""
        return spec.large

    def devices(self) -> list[str]:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def side_stream(self) -> AbstractContextManager[object]:
        """Inside, work goes to a stream of its own, which waits for what was queued before."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(stream)

    def delay(self) -> None:
        """Keeps the current stream busy for some ten milliseconds."""
        torch.cuda._sleep(20_000_000)

    def capture(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """The results that a CUDA graph of `function` leaves, and its replay."""
        with self.side_stream():  # libraries make their workspaces before the capture
            for _ in range(2):
                function()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = function()
        return results, graph.replay

    @contextmanager
    def synchronisation_is_an_error(self) -> Iterator[None]:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class Emulated:
    device = "cpu"

    def large(self, spec: OpSpec) -> Case:
        return spec.cases[0]

    def devices(self) -> list[str]:
        return ["cpu"]

    def synchronize(self) -> None:
        """Launches are synchronous."""

    def side_stream(self) -> AbstractContextManager[object]:
        return nullcontext()

    def delay(self) -> None:
        """There is one stream."""

    def capture(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        results = function()

        def replay() -> None:
            for held, new in zip(results, function(), strict=True):
                held.copy_(new)

        return results, replay

    def synchronisation_is_an_error(self) -> AbstractContextManager[object]:
        return nullcontext()


Place = Gpu | Emulated
