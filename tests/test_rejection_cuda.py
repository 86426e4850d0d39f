"""The rejection kernels of CUDA at the edges: emulated here, and on a GPU where one is.

What holds of every op on CUDA is in device_suite.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from checks import deterministic
from contract import short
from emulated import SCHEDULES, emulation

from genfast import reference
from genfast.ops import rejection_accept, rejection_compact
from genfast.sampling import uniforms

INF, NAN = math.inf, math.nan
FP = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=short)
# Several tiles of 2048, a ragged last one, and more tiles than the emulation has blocks.
COUNT = 5 * 2048 + 77


def draws(dtype: torch.dtype, device: str, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose maximum keeps rising."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, generator=generator, dtype=torch.float64) + torch.linspace(-3, 3, count)
    u = 0.01 + 0.98 * torch.rand(count, generator=generator, dtype=torch.float64)
    return logits.to(device, dtype), u.to(device, dtype)


@FP
def test_nan_is_rejected_counted_and_kept_out_of_the_maximum(device: str, dtype: torch.dtype) -> None:
    logits, u = draws(dtype, device)
    logits[[3, 4000, COUNT - 1]] = NAN
    accept, log_m, nan_count = rejection_accept(logits, u, -2.0, return_nan_count=True)
    expected, maximum = reference.rejection_accept(logits, u, -2.0)
    assert torch.equal(accept, expected)
    assert log_m == maximum
    assert nan_count == 3
    assert not accept[[3, 4000, COUNT - 1]].any()
    with pytest.raises(ValueError, match=r"logits must not be NaN, but 3 .* index 3"):
        rejection_accept(logits, u, -2.0, check=True)
    nothing = torch.tensor(NAN, dtype=dtype, device=device)
    assert torch.equal(rejection_accept(logits, u, nothing)[0], rejection_accept(logits, u, -INF)[0])
    with pytest.raises(ValueError, match="log_m must be"):
        rejection_accept(u, u, nothing, check=True)


@FP
def test_infinite_logits(device: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([-INF, 0.0, -INF, INF, 5.0, INF, 3e38], dtype=dtype, device=device)
    half = torch.full_like(logits, 0.5)
    accept, log_m = rejection_accept(logits, half, -INF)
    assert accept.tolist() == [False, True, False, True, False, True, False]
    assert log_m == INF
    accept, log_m = rejection_accept(logits[:1], half[:1] * 0, -INF)
    assert not accept.any()
    assert log_m == -INF
    accept, log_m, nan_count = rejection_accept(logits[:0], half[:0], 1.5, return_nan_count=True)
    assert (accept.numel(), log_m.item(), nan_count.item()) == (0, 1.5, 0)


@FP
@pytest.mark.parametrize("first", [0, 7, 2**40 + 2])
def test_counter_based_uniforms(device: str, dtype: torch.dtype, first: int) -> None:
    logits, _ = draws(dtype, device, 2100)
    counters = torch.arange(first // 4, (first + 2100) // 4 + 1, device=device)
    stream = uniforms(-5, counters, 0, 4, dtype=dtype).flatten()[first % 4 :][:2100]
    expected, _ = rejection_accept(logits, stream, -1.0)
    accept, _ = rejection_accept(logits, None, -1.0, seed=-5, first=first)
    assert torch.equal(accept, expected)


@pytest.mark.parametrize("gamma", [0.0, -95.0, 2.0])
def test_probability_at_the_edges(device: str, gamma: float) -> None:
    for d in (0.0, -1e-7, -20.0, -80.0):
        x = torch.full((2,), d, device=device)
        exact = x[0].double().item()
        p = 1 / (1 + math.exp(-(exact - math.log(-math.expm1(exact - 1e-8)) - gamma)))
        u = torch.tensor([p * (1 - 1e-6), p * (1 + 1e-6)], device=device)
        accept, _ = rejection_accept(x, u, 0.0, gamma=gamma)
        assert accept[0]
        assert not accept[1] or p > 1 - 2e-6


@pytest.mark.parametrize("shape", [(4500,), (4500, 2), (700, 3), (40, 3, 20, 10), (9, 70_000)], ids=str)
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.complex128], ids=str
)
def test_compact(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if math.prod(shape) > 100_000 and (device == "cpu" and dtype is not torch.complex128):
        shape = (shape[0], shape[1] // 50)  # the emulation takes microseconds an element
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 200, shape, generator=generator).to(device, dtype)
    accept = (torch.rand(shape[0], generator=generator) < 0.4).to(device)
    rows, count = rejection_compact(samples, accept)
    expected, number = reference.rejection_compact(samples, accept)
    assert count == number
    assert torch.equal(rows[:count], expected[:count])


def test_compact_strided(device: str) -> None:
    base = torch.randn(50, 6, 4, 10, generator=torch.Generator().manual_seed(0)).to(device)
    accept = (torch.arange(100, device=device) % 7 > 3)[::2]
    for samples in (
        base[:, ::2], base.transpose(1, 3), base[..., 0], base.to(memory_format=torch.channels_last),
        base.permute(3, 1, 2, 0).contiguous().permute(3, 0, 1, 2), base[:, :1].expand(-1, 6, -1, -1),
        base[:, 0, 0, 1:3], base[:, 0, 0, :0],
    ):  # fmt: skip
        rows, count = rejection_compact(samples, accept)
        assert torch.equal(rows[:count], samples[accept])
        with deterministic():
            rows, _ = rejection_compact(samples, accept)
        assert not rows[count:].any()


def test_every_schedule_gives_the_same() -> None:
    with emulation() as module:
        logits, u = draws(torch.float32, "cpu")
        samples, results = torch.randn(COUNT, 2), []
        for schedule in SCHEDULES:
            module.configure(*schedule)
            accept, log_m = rejection_accept(logits, u, -2.0)
            with deterministic():
                results.append((accept, log_m, *rejection_compact(samples, accept)))
        module.configure("forward", 0)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))
