"""Every op: the same result every time, on any number of threads, and in forked processes."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from checks import assert_close, forward_backward, in_fp64, normal_like
from contract import proves
from opspec import SPECS
from specs.base import OpSpec, Registered
from torch import Tensor


def run_large(spec: OpSpec, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    wanted = spec.differentiable(spec.large)
    return forward_backward(
        spec.op, spec.tensors(spec.large, dtype, seed=seed), spec.large.keywords, wanted
    )


def assert_same_bits(got: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@proves("deterministic")
def test_same_bits_every_time(spec: OpSpec, dtype: torch.dtype) -> None:
    torch.set_num_threads(2)
    first = run_large(spec, dtype)
    for _ in range(5):
        assert_same_bits(run_large(spec, dtype), first)


@proves("same bits on any threads")
def test_same_bits_on_two_threads(spec: OpSpec, dtype: torch.dtype) -> None:
    one = run_large(spec, dtype)
    torch.set_num_threads(2)
    assert_same_bits(run_large(spec, dtype), one)


@proves("threads")
def test_thread_pool(spec: OpSpec, dtype: torch.dtype) -> None:
    """Calls from several threads at once do not disturb each other."""
    case, wanted = spec.cases[0], spec.differentiable(spec.cases[0])

    def task(seed: int) -> None:
        tensors = spec.tensors(case, dtype, seed=seed)
        mine = forward_backward(spec.op, tensors, case.keywords, wanted)
        cotangent = normal_like(mine[0]).double()
        exact = forward_backward(spec.reference, in_fp64(tensors), case.keywords, wanted, cotangent)
        for got, true in zip(mine, exact, strict=True):
            assert_close(got, true)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(task, range(16)))


def run_in_fork(function: Callable[[], None], seconds: float) -> None:
    """Runs it in a forked child, which fails if it raises and is killed if it hangs."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            assert status == 0, "the forked child failed; its traceback is in the captured stderr"
            return
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"the forked child hung for {seconds} s")


in_a_fork = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@in_a_fork
@proves("fork")
def test_fork(spec: OpSpec, dtype: torch.dtype) -> None:
    """As in a DataLoader's worker: one thread in a child whose parent has used the op on two."""
    torch.set_num_threads(2)
    expected = run_large(spec, dtype)

    def child() -> None:
        torch.set_num_threads(1)
        for got, true in zip(run_large(spec, dtype), expected, strict=True):
            # Sums over the image in another order: more than the last bits, much less than a wrong one.
            assert (got - true).abs().max() <= 32 * torch.finfo(dtype).eps * (1 + true.abs().max())

    run_in_fork(child, seconds=20)


@in_a_fork
@pytest.mark.parametrize(
    ("spec", "registered"),
    [pytest.param(spec, op, id=op.name) for spec in SPECS for op in spec.registered],
)
def test_fork_with_two_threads(spec: OpSpec, registered: Registered) -> None:
    """Our own kernels do not wait for threads that the child does not have, even if told to use two.

    Nothing of PyTorch may run on two threads here: its own parallel regions would hang.
    """
    torch.set_num_threads(2)
    op = getattr(torch.ops.genfast, registered.name).default
    arguments = registered.arguments(*spec.tensors(spec.large, torch.float32), **spec.large.keywords)

    def results() -> list[np.ndarray]:
        results = op(*arguments)
        if registered.leaves_memory:  # after the accepted rows
            rows, count = results
            results = rows[: int(count)], count
        return [t.numpy() for t in ((results,) if isinstance(results, Tensor) else results)]

    expected = results()

    def child() -> None:
        assert torch.get_num_threads() == 2
        for got, true in zip(results(), expected, strict=True):
            np.testing.assert_array_equal(got, true)

    run_in_fork(child, seconds=20)


@in_a_fork
def test_a_hanging_child_is_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match="hung"):
        run_in_fork(lambda: time.sleep(60), seconds=0.05)
