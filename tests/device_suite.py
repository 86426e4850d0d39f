"""What must hold of every op on CUDA: one class of tests, run on a GPU and with the kernels emulated.

test_ops_cuda.py and test_ops_emulated.py derive from OpsOnDevice and say where it runs. A convolution is
tested twice on a GPU, by cuDNN and by genfast's kernels, whichever of them the rule would take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from checks import (
    assert_as_exact_as_torch,
    assert_close,
    deterministic,
    forward_backward,
    fp64_errors_allowed,
    in_fp64,
    largest,
    normal_like,
)
from contract import short
from device_calls import Call, channels_last
from places import Place, exact_convolutions, own_kernels
from specs.base import FLOATS, Case
from torch import Tensor

every_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=short)


def poison_like(t: Tensor) -> Tensor:
    """NaN, or -1 where integers have none."""
    return torch.full_like(t, torch.nan if t.is_floating_point() else -1)


class OpsOnDevice:
    place: ClassVar[Place]
    calls: ClassVar[list[Call]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "call" in metafunc.fixturenames:
            metafunc.parametrize("call", self.calls, ids=str)

    @pytest.fixture(autouse=True)
    def setting(self, call: Call) -> Iterator[None]:
        with exact_convolutions(), own_kernels(call.own):
            yield

    def run(
        self,
        call: Call,
        case: Case,
        tensors: list[Tensor | None],
        cotangent: Tensor | None = None,
    ) -> list[Tensor]:
        """Output and gradients."""
        wanted = call.spec.differentiable(case)
        return forward_backward(call.spec.op, tensors, case.keywords, wanted, cotangent)

    def cotangent(self, call: Call, case: Case, tensors: list[Tensor | None]) -> Tensor:
        """A gradient to send back, made beforehand: making one waits for the host."""
        return normal_like(call.spec.op(*tensors, **case.keywords))

    def exact(
        self, call: Call, case: Case, tensors: list[Tensor | None], cotangent: Tensor
    ) -> list[Tensor]:
        """The same of the reference in fp64."""
        wanted = call.spec.differentiable(case)
        return forward_backward(
            call.spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent.double()
        )

    # ---- exactness -------------------------------------------------------------------------------

    def check_exactness(self, call: Call, case: Case, tensors: list[Tensor | None]) -> None:
        spec, wanted = call.spec, call.spec.differentiable(case)
        plain = spec.plain or spec.reference
        mine = self.run(call, case, tensors)
        cotangent = normal_like(mine[0])
        exact = self.exact(call, case, tensors, cotangent)
        if mine[0].dtype is torch.float64:
            allowed = fp64_errors_allowed(plain, spec.reference, tensors, case.keywords, wanted)
            for i, (got, true, error) in enumerate(zip(mine, exact, allowed, strict=True)):
                # PyTorch's fp64 may be another algorithm than its fp32, with an error of its own.
                error = max(error, 8 * torch.finfo(torch.float64).eps * (1 + largest(true)))
                assert largest(got - true) <= error, f"result {i}"
            return
        torchs = forward_backward(plain, tensors, case.keywords, wanted, cotangent)
        for i, items in enumerate(zip(mine, torchs, exact, strict=True)):
            assert_as_exact_as_torch(*items, f"result {i}")

    @every_dtype
    def test_as_exact_as_torch(self, call: Call, dtype: torch.dtype) -> None:
        """More than one block, and a ragged tail."""
        case = call.spec.large
        self.check_exactness(call, case, call.spec.tensors(case, dtype, self.place.device))

    @every_dtype
    def test_as_exact_as_torch_on_the_fast_path(self, call: Call, dtype: torch.dtype) -> None:
        """Channels-last, aligned, channels in multiples of 16 bytes."""
        tensors = channels_last(call.spec.tensors(call.vector, dtype, self.place.device))
        self.check_exactness(call, call.vector, tensors)

    @every_dtype
    def test_every_option(self, call: Call, dtype: torch.dtype) -> None:
        for case in call.spec.cases:
            tensors = call.spec.tensors(case, dtype, self.place.device)
            mine = self.run(call, case, tensors)
            exact = self.exact(call, case, tensors, normal_like(mine[0]))
            for got, true in zip(mine, exact, strict=True):
                assert_close(got, true)

    @every_dtype
    def test_views(self, call: Call, dtype: torch.dtype) -> None:
        """Every second element of a buffer that is poison between, and an expanded gradient."""
        case = call.spec.cases[0]
        tensors = call.spec.tensors(case, dtype, self.place.device)
        views = [None if t is None else torch.stack([t, poison_like(t)], -1)[..., 0] for t in tensors]
        wanted = call.spec.differentiable(case)
        one = torch.ones((), dtype=dtype, device=self.place.device)

        def summed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda *given, **keywords: function(*given, **keywords).sum()

        got = forward_backward(summed(call.spec.op), views, case.keywords, wanted, one)
        exact = forward_backward(
            summed(call.spec.reference), in_fp64(tensors), case.keywords, wanted, one.double()
        )
        for mine, true in zip(got[1:], exact[1:], strict=True):
            assert_close(mine, true)

    @every_dtype
    def test_empty_batch(self, call: Call, dtype: torch.dtype) -> None:
        tensors = call.spec.tensors(call.spec.empty, dtype, self.place.device)
        y, *gradients = self.run(call, call.spec.empty, tensors)
        assert y.numel() == 0
        assert y.dtype == dtype
        for gradient in gradients:
            assert not gradient.any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=short)
    def test_autocast(self, call: Call, dtype: torch.dtype) -> None:
        case = call.spec.cases[0]
        tensors = call.spec.tensors(case, dtype, self.place.device)

        def function(*given: Any, **keywords: Any) -> Tensor:
            with torch.autocast(self.place.device, torch.bfloat16):
                return call.spec.op(*given, **keywords)

        wanted = call.spec.differentiable(case)
        y, *gradients = forward_backward(function, tensors, case.keywords, wanted)
        assert y.dtype == call.spec.under_autocast(dtype)
        for i, gradient in zip(wanted, gradients, strict=True):
            assert gradient.dtype == dtype, call.spec.arguments[i]
        exact = call.spec.reference(*in_fp64(tensors), **case.keywords)
        assert largest(y.double() - exact) <= 8 * torch.finfo(y.dtype).eps * (1 + largest(exact))

    # ---- torch's machinery -----------------------------------------------------------------------

    def test_opcheck(self, call: Call) -> None:
        case = call.spec.cases[0]
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        for registered in (*call.spec.registered, *call.spec.cuda_only):
            op = getattr(torch.ops.genfast, registered.name).default
            with deterministic(registered.leaves_memory):
                result = torch.library.opcheck(op, registered.arguments(*tensors, **case.keywords))
            assert set(result.values()) == {"SUCCESS"}

    @pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
    def test_vmap(self, call: Call) -> None:
        case = call.spec.cases[0]
        samples = [
            call.spec.tensors(case, torch.float32, self.place.device, seed=seed) for seed in range(3)
        ]
        stacked = [None if t[0] is None else torch.stack(t) for t in zip(*samples, strict=True)]
        dims = tuple(None if t is None else 0 for t in stacked)
        together = torch.vmap(lambda *t: call.spec.op(*t, **case.keywords), in_dims=dims)(*stacked)
        for got, sample in zip(together, samples, strict=True):
            assert_close(got, call.spec.op(*sample, **case.keywords).double())

    def check_compiled(self, call: Call, backend: str) -> None:
        case = call.spec.cases[0]
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        wanted = call.spec.differentiable(case)
        torch.compiler.reset()
        try:
            compiled = torch.compile(call.spec.op, fullgraph=True, backend=backend, dynamic=False)
            got = forward_backward(compiled, tensors, case.keywords, wanted)
        finally:
            torch.compiler.reset()
        for mine, eager in zip(got, self.run(call, case, tensors), strict=True):
            assert_close(mine, eager.double())

    def test_fullgraph(self, call: Call) -> None:
        """Dynamo and AOTAutograd, without the code generator."""
        self.check_compiled(call, "aot_eager")

    # ---- streams, graphs, devices ----------------------------------------------------------------

    def test_side_stream(self, call: Call) -> None:
        """Input that slow work on the same side stream has yet to write is waited for."""
        case = self.place.large(call.spec)
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        cotangent = self.cotangent(call, case, tensors)
        expected = self.run(call, case, tensors, cotangent)
        late = torch.zeros_like(tensors[0])
        with self.place.side_stream():
            self.place.delay()
            late.copy_(tensors[0])
            got = self.run(call, case, [late, *tensors[1:]], cotangent)
        self.place.synchronize()
        call.assert_same(got, expected)

    def test_two_streams(self, call: Call) -> None:
        """Calls on two streams at once do not disturb each other (no workspace is shared)."""
        case = self.place.large(call.spec)
        inputs = [
            call.spec.tensors(case, torch.float32, self.place.device, seed=seed) for seed in (0, 1)
        ]
        cotangent = self.cotangent(call, case, inputs[0])
        expected = [self.run(call, case, tensors, cotangent) for tensors in inputs]
        self.place.synchronize()
        streams = [self.place.side_stream(), self.place.side_stream()]
        got = []
        for _ in range(4):
            for stream, tensors in zip(streams, inputs, strict=True):
                with stream:
                    self.place.delay()
                    got.append(self.run(call, case, tensors, cotangent))
        self.place.synchronize()
        for i, results in enumerate(got):
            call.assert_same(results, expected[i % 2])

    def test_graph_capture(self, call: Call) -> None:
        """Forward and backward are captured once and replayed on new input."""
        case = self.place.large(call.spec)
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        cotangent = self.cotangent(call, case, tensors)
        captured, replay = self.place.capture(lambda: self.run(call, case, tensors, cotangent))
        fresh = call.spec.tensors(case, torch.float32, self.place.device, seed=1)
        for held, new in zip(tensors, fresh, strict=True):
            if held is not None:
                held.copy_(new)
        replay()
        self.place.synchronize()
        call.assert_same(captured, self.run(call, case, tensors, cotangent))

    @pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
    def test_no_synchronisation(self, call: Call) -> None:
        case = self.place.large(call.spec)
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        cotangent = self.cotangent(call, case, tensors)
        self.run(call, case, tensors, cotangent)
        with self.place.synchronisation_is_an_error():
            self.run(call, case, tensors, cotangent)

    def test_every_device(self, call: Call) -> None:
        """Work runs where its tensors are, whichever device is current."""
        case = call.spec.cases[0]
        for device in self.place.devices():
            tensors = call.spec.tensors(case, torch.float32, device)
            mine = self.run(call, case, tensors)
            exact = self.exact(call, case, tensors, normal_like(mine[0]))
            for got, true in zip(mine, exact, strict=True):
                assert got.device == tensors[0].device
                assert_close(got, true)

    def test_same_bits_every_time(self, call: Call) -> None:
        case = self.place.large(call.spec)
        tensors = call.spec.tensors(case, torch.float32, self.place.device)
        first = self.run(call, case, tensors)
        for _ in range(3):
            call.assert_same(self.run(call, case, tensors), first)

    # ---- bad input -------------------------------------------------------------------------------

    def test_bad_input_is_named(self, call: Call) -> None:
        for bad in call.spec.bad:
            with torch.device(self.place.device), pytest.raises(bad.error) as caught:
                bad.call(call.spec.op)
            assert caught.type is bad.error, bad.name
            for words in bad.says:
                words = self.place.device if words == "cpu" else words
                assert re.search(re.escape(words), str(caught.value)), f"{bad.name}: {caught.value}"
