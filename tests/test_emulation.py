"""The emulation of CUDA itself: right kernels are right and equal under every schedule.

The wrong ones are in test_emulation_faults.py; all are kernels of csrc/emulation/tests.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch
from emulation_kernels import SCHEDULES, kernels_module, run_cmake, run_program
from torch import Tensor

from genfast.sampling import uniforms


@pytest.fixture(scope="module")
def emulator() -> ModuleType:
    return kernels_module()


# ---- right kernels: (module) -> what the kernel gave, what is right ------------------------------


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def integers(n: int) -> Tensor:
    return torch.randint(100, (n,), generator=torch.Generator().manual_seed(n), dtype=torch.int32)


def zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.int32)


def matmul(e: ModuleType) -> tuple[Tensor, Tensor]:
    a, b, c = normal(100, 37), normal(37, 70), torch.full((100, 70), torch.nan)
    e.matmul(a.data_ptr(), b.data_ptr(), c.data_ptr(), 100, 70, 37)
    return c, a @ b


def logsumexp(e: ModuleType) -> tuple[Tensor, Tensor]:
    x, y = normal(9, 300), torch.full((9,), torch.nan)
    e.logsumexp(x.data_ptr(), y.data_ptr(), 9, 300)
    return y, torch.logsumexp(x, 1)


def recurrence(e: ModuleType) -> tuple[Tensor, Tensor]:
    steps, dim = 12, 40
    w, x, h = normal(dim, dim) * 0.1, normal(steps, dim), torch.full((steps + 1, dim), torch.nan)
    h[0] = 0
    barrier = zeros(2)
    e.recurrence(w.data_ptr(), x.data_ptr(), h.data_ptr(), barrier.data_ptr(), steps, dim, 5)
    expected = [torch.zeros(dim)]
    for t in range(steps):
        expected.append(torch.tanh(w @ expected[-1] + x[t]))
    return h, torch.stack(expected)


def tensor_matmul(
    e: ModuleType, form: str, dtype: torch.dtype, rounded: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    m, n, k = 48, 32, 80
    a, b, c = normal(m, k).to(dtype), normal(k, n).to(dtype), torch.full((m, n), torch.nan)
    stored = b.clone() if form.endswith("trans") else b.t().contiguous()
    e.tensor_matmul(form, a.data_ptr(), stored.data_ptr(), c.data_ptr(), m, n, k)
    return c, (rounded(a).double() @ rounded(b).double()).float()


def round_tf32(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def scan(e: ModuleType) -> tuple[Tensor, Tensor]:
    x, sums, odd = integers(200), zeros(200), zeros(1)
    e.scan(x.data_ptr(), sums.data_ptr(), odd.data_ptr(), 200)
    return torch.cat([sums, odd]), torch.cat([x.cumsum(0), (x % 2).sum()[None]]).int()


def chained_scan(e: ModuleType) -> tuple[Tensor, Tensor]:
    x, sums, state = (
        integers(768),
        torch.zeros(768, dtype=torch.int32),
        torch.zeros(24, dtype=torch.int32),
    )
    e.chained_scan(x.data_ptr(), sums.data_ptr(), state.data_ptr(), 768)
    return sums, x.cumsum(0).int()


def histogram(e: ModuleType) -> tuple[Tensor, Tensor]:
    x, counts, largest = (
        integers(999),
        torch.zeros(13, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
    )
    e.histogram(x.data_ptr(), counts.data_ptr(), largest.data_ptr(), 999, 13)
    return torch.cat([counts, largest]), torch.cat([torch.bincount(x % 13), x.max()[None]]).int()


def functions(e: ModuleType) -> tuple[Tensor, Tensor]:
    x = torch.cat([normal(992) * 5, torch.tensor([100.0, -100.0, 1e4, -1e4, 1e-6, -1e-6, 1.0, -1.0])])
    y = torch.full((4, 1000), torch.nan)
    e.functions(x.data_ptr(), y.data_ptr(), 1000)
    return y, torch.stack([x.exp(), x.abs().log(), x.sigmoid(), x.tanh()])


def philox(e: ModuleType) -> tuple[Tensor, Tensor]:
    seed, first = 0x123456789ABCDEF, (1 << 32) - 2  # the images' numbers cross 2^32
    y = torch.full((4, 9), torch.nan)
    e.uniforms(y.data_ptr(), seed, first, 4, 77, 9)
    return y, uniforms(seed, torch.arange(first, first + 4), 77, 9)


WORKLOADS: dict[str, Callable[[ModuleType], tuple[Tensor, Tensor]]] = {
    "tiled matmul": matmul,
    "shuffle reduction": logsumexp,
    "cooperative recurrence": recurrence,
    "bf16 mma": lambda e: tensor_matmul(e, "bf16", torch.bfloat16, Tensor.float),
    "bf16 mma, ldmatrix trans": lambda e: tensor_matmul(e, "bf16 trans", torch.bfloat16, Tensor.float),
    "fp16 mma": lambda e: tensor_matmul(e, "fp16", torch.float16, Tensor.float),
    "tf32 mma": lambda e: tensor_matmul(e, "tf32", torch.float32, round_tf32),
    "3xtf32 mma": lambda e: tensor_matmul(e, "3xtf32", torch.float32, Tensor.float),
    "ballot scan": scan,
    "chained scan": chained_scan,
    "atomics": histogram,
    "fast functions": functions,
    "philox": philox,
}
EXACT = {"ballot scan", "chained scan", "atomics", "philox"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_right_kernels_are_right_and_equal_under_every_schedule(emulator: ModuleType, name: str) -> None:
    results = []
    for order, seed in SCHEDULES:
        emulator.configure(order, seed)
        result, expected = WORKLOADS[name](emulator)
        tolerance = {"rtol": 0.0, "atol": 0.0} if name in EXACT else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(result, expected, **tolerance)
        results.append(result)
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize(("order", "seed"), SCHEDULES)
def test_the_checks_that_also_run_on_a_gpu(emulator: ModuleType, order: str, seed: int) -> None:
    """csrc/emulation/tests/workload_checks.h: on a GPU they say whether the emulation is like it."""
    emulator.configure(order, seed)
    results = emulator.check_workloads()
    assert {"mma fragments tf32", "ldmatrix", "cp.async", "grid barrier", "graph"} <= {
        name for name, *_ in results
    }
    assert [result for result in results if not result[1] <= result[2]] == []


@pytest.mark.parametrize("sanitizers", ["asan", "tsan"])
@pytest.mark.parametrize(("order", "seed"), SCHEDULES[:3])
def test_sanitizers_have_nothing_to_say_about_right_kernels(
    emulator: ModuleType, sanitizers: str, order: str, seed: int
) -> None:
    ended = run_program(sanitizers, "right", order, str(seed))
    assert (ended.returncode, ended.stderr) == (0, "")


# ---- the module itself ---------------------------------------------------------------------------


def test_launches_from_several_threads(emulator: ModuleType) -> None:
    emulator.configure("forward")
    with ThreadPoolExecutor(4) as pool:
        for result, expected in pool.map(lambda _: recurrence(emulator), range(8)):
            torch.testing.assert_close(result, expected)


def test_unknown_order_is_an_error(emulator: ModuleType) -> None:
    with pytest.raises(ValueError, match="must be 'forward', 'reverse' or 'random', not 'sideways'"):
        emulator.configure("sideways")


def test_missing_cuda_headers_are_named(tmp_path: Path) -> None:
    configured = run_cmake(tmp_path / "build", f"-DGENFAST_CUDA_INCLUDE={tmp_path}")
    assert configured.returncode != 0
    message = " ".join(configured.stderr.split())
    assert f"found them in none of: {tmp_path}" in message
    assert "pip install nvidia-cuda-runtime==13.0.* nvidia-cuda-crt==13.0.*" in message
