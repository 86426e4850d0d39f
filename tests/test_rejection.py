"""rejection: values at the edges, the stream of uniforms, NaN, strides, the published form's defect."""

from __future__ import annotations

import math

import pytest
import torch
from checks import deterministic
from contract import short
from torch import Tensor

from genfast import reference
from genfast.ops import rejection_accept, rejection_compact
from genfast.sampling import uniforms

INF, NAN = math.inf, math.nan
FP = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=short)


def one_by_one(logits: Tensor, u: Tensor, log_m: float, gamma: float, eps: float) -> tuple[list, float]:
    """The definition, in Python's own numbers."""
    accept = []
    for x, v in zip(logits.tolist(), u.tolist(), strict=True):
        if math.isnan(x):
            accept.append(False)
            continue
        log_m = max(log_m, x)
        d = 0.0 if x == log_m else x - log_m
        if x == -INF or d == -INF:
            accept.append(False)
            continue
        f = d - math.log(-math.expm1(d - eps)) - gamma
        accept.append(v <= (1 / (1 + math.exp(-f)) if f > -700 else 0.0))
    return accept, log_m


def draws(n: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.rand(n, generator=generator, dtype=torch.float64).to(dtype)


@FP
@pytest.mark.parametrize("gamma", [0.0, -2.5, 1.0])
def test_equals_one_sample_after_another(isa: str, dtype: torch.dtype, gamma: float) -> None:
    logits, u = draws(40_003, dtype)
    logits = logits + torch.linspace(-3, 3, 40_003).to(dtype)  # the maximum keeps rising
    for threads in (1, 2):
        torch.set_num_threads(threads)
        accept, log_m = rejection_accept(logits, u, -5.0, gamma=gamma)
        expected, maximum = one_by_one(logits, u, -5.0, gamma, 1e-8)
        assert accept.tolist() == expected
        assert log_m.item() == maximum
        assert accept.any()


@FP
def test_batches_continue_each_other(isa: str, dtype: torch.dtype) -> None:
    """log_m' of one batch into the next gives what one batch gives, however the stream is cut."""
    logits, u = draws(5000, dtype)
    whole, maximum = rejection_accept(logits, u, -INF)
    for size in (1, 7, 512, 1300):
        log_m: float | Tensor = -INF
        parts = []
        for x, v in zip(logits.split(size), u.split(size), strict=True):
            accept, log_m = rejection_accept(x, v, log_m)
            parts.append(accept)
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(log_m, maximum)


@FP
def test_probability_at_the_edges(isa: str, dtype: torch.dtype) -> None:
    """F is finite at d = 0, -1e-7 and -100, where the printed form is not: the exact p on both sides."""
    for gamma in (0.0, 3.0, -95.0):
        for d in (0.0, -1e-7, -1e-3, -20.0, -80.0):
            exact_d = torch.tensor(d, dtype=dtype).double().item()
            f = exact_d - math.log(-math.expm1(exact_d - 1e-8)) - gamma
            p = 1 / (1 + math.exp(-f))
            spread = 8 * torch.finfo(dtype).eps
            u = torch.tensor([p * (1 - spread), p * (1 + spread)], dtype=dtype)
            accept, log_m = rejection_accept(torch.full((2,), d, dtype=dtype), u, 0.0, gamma=gamma)
            assert accept[0], (gamma, d)
            assert not accept[1] or p * (1 + spread) >= 1 - 2 * spread, (gamma, d)
            assert log_m == 0
    direct = torch.tensor(0.0) - torch.log(1 - torch.exp(torch.tensor(0.0) - 1e-8))
    assert direct == INF  # what this test is about


@FP
def test_without_gamma_p_is_the_density_ratio(isa: str, dtype: torch.dtype) -> None:
    """gamma = 0 and eps -> 0: accepted iff u <= e^d."""
    logits, u = draws(100_000, dtype)
    accept, _ = rejection_accept(logits, u, 6.0, eps=0.0)
    ratio = torch.exp(logits.double() - 6)
    clear = (u.double() / ratio - 1).abs() > 1e-5
    assert torch.equal(accept[clear], (u.double() <= ratio)[clear])


@FP
def test_infinite_logits(isa: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([-INF, 0.0, -INF, INF, 5.0, INF, 3e38], dtype=dtype)
    accept, log_m = rejection_accept(logits, torch.full((7,), 0.5, dtype=dtype), -INF)
    assert accept.tolist() == [False, True, False, True, False, True, False]
    assert log_m == INF
    accept, log_m = rejection_accept(logits[:3], torch.zeros(3, dtype=dtype), INF)
    assert not accept.any()
    assert log_m == INF
    accept, log_m = rejection_accept(logits[:1], torch.zeros(1, dtype=dtype), -INF)
    assert not accept.any()
    assert log_m == -INF


@FP
def test_nan_logits_raise_and_are_counted(dtype: torch.dtype) -> None:
    logits, u = draws(3000, dtype)
    logits[[17, 2000]] = NAN
    with pytest.raises(ValueError, match=r"logits must not be NaN, but 2 of them .* index 17"):
        rejection_accept(logits, u, 0.0)
    with pytest.raises(ValueError, match="log_m must be a number or -inf, got nan"):
        rejection_accept(logits[:5], u[:5], torch.tensor(NAN))
    *_, nan_count = rejection_accept(logits[:17], u[:17], 0.0, return_nan_count=True)
    assert nan_count.item() == 0
    assert nan_count.dtype == torch.int64


def test_nan_uniforms_are_not_accepted(isa: str) -> None:
    for dtype in (torch.float32, torch.float64):
        accept, _ = rejection_accept(
            torch.zeros(40, dtype=dtype), torch.full((40,), NAN, dtype=dtype), 0
        )
        assert not accept.any()


@FP
@pytest.mark.parametrize(("seed", "first"), [(0, 0), (-3, 5), (2**64 + 9, 2**40 + 2)])
def test_counter_based_uniforms(isa: str, dtype: torch.dtype, seed: int, first: int) -> None:
    """Those of genfast.sampling.uniforms, and the same for every cut of the stream."""
    logits = draws(2500, dtype)[0]
    counters = torch.arange(first // 4, (first + 2500) // 4 + 1)
    stream = uniforms(seed, counters, 0, 4, dtype=dtype).flatten()[first % 4 :][:2500]
    expected, maximum = rejection_accept(logits, stream, -1.0)
    accept, log_m = rejection_accept(logits, None, -1.0, seed=seed, first=first)
    assert torch.equal(accept, expected)
    assert torch.equal(log_m, maximum)
    head, log_m = rejection_accept(logits[:333], None, -1.0, seed=seed, first=first)
    tail, log_m = rejection_accept(logits[333:], None, log_m, seed=seed, first=first + 333)
    assert torch.equal(torch.cat([head, tail]), expected)


def test_log_m_of_any_kind() -> None:
    logits, u = draws(100, torch.float32)
    results = [
        rejection_accept(logits, u, m) for m in (2, 2.0, torch.tensor(2.0), torch.tensor(2.0).double())
    ]
    for accept, log_m in results:
        assert torch.equal(accept, results[0][0])
        assert log_m.dtype == torch.float32
        assert log_m.ndim == 0
    _, log_m = rejection_accept(logits.bfloat16(), u.bfloat16(), 5.003)
    assert log_m.dtype == torch.float32
    assert log_m == torch.tensor(5.003)


def test_ten_million(isa: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10_000_000, generator=generator)
    torch.set_num_threads(2)
    accept, log_m = rejection_accept(logits, None, -INF, seed=1)
    assert log_m == logits.max()
    stale = 10_000  # before which the maximum may be far too low
    expected = torch.exp(logits.double() - logits.cummax(0).values.double())[stale:].mean().item()
    rate = accept[stale:].double().mean().item()
    assert abs(rate - expected) < 5 * math.sqrt(expected / 1e7)
    rows, count = rejection_compact(logits, accept)
    assert torch.equal(rows[:count], logits[accept])


# ---- compact -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.bool, torch.int16, torch.int64, torch.bfloat16, torch.complex128],
    ids=str,
)
@pytest.mark.parametrize("shape", [(301,), (301, 2), (301, 3), (90, 3, 5, 2)], ids=str)
def test_compact_any_dtype(isa: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 200, shape, generator=generator).to(dtype)
    accept = torch.rand(shape[0], generator=generator) < 0.4
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rows, count = rejection_compact(samples, accept)
        expected, number = reference.rejection_compact(samples, accept)
        assert count == number
        assert torch.equal(rows[:count], expected[:count])


def test_compact_strided(isa: str) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(80, 6, 4, 10, generator=generator)
    accept = (torch.rand(160, generator=generator) < 0.4)[::2]
    for samples in (
        base[:, ::2], base.transpose(1, 3), base[..., 0],
        base.permute(3, 1, 2, 0).contiguous().permute(3, 0, 1, 2),
        base[:, :1].expand(-1, 6, -1, -1), base.flip(1)[:, 1:], base[:, 0, 0, 1:3], base[:, 1:3, 0, 0],
    ):  # fmt: skip
        rows, count = rejection_compact(samples, accept)
        assert torch.equal(rows[:count], samples[accept])
        assert rows.stride() == torch.empty_like(samples).stride()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_compact_none_and_all(isa: str, rate: float) -> None:
    samples = torch.randn(70_000, 3)
    torch.set_num_threads(2)
    rows, count = rejection_compact(samples, torch.full((70_000,), bool(rate)))
    assert count == 70_000 * rate
    assert torch.equal(rows[:count], samples[:count])


@pytest.mark.parametrize("shape", [(301,), (301, 3), (90, 3, 5, 2)], ids=str)
def test_compact_leaves_no_memory_as_it_was_where_torch_does_not(
    isa: str, shape: tuple[int, ...]
) -> None:
    """Both kinds of rows, contiguous and not."""
    samples, accept = (
        torch.randn(shape).movedim(0, -1).contiguous().movedim(-1, 0),
        torch.arange(shape[0]) % 3 > 0,
    )
    with deterministic():
        for given in (samples, samples.contiguous()):
            rows, count = rejection_compact(given, accept)
            assert torch.equal(rows[:count], samples[accept])
            assert not rows[count:].any()


def test_compact_of_empty_rows() -> None:
    rows, count = rejection_compact(torch.empty(4, 0), torch.tensor([True, False, True, True]))
    assert rows.shape == (4, 0)
    assert count == 3


def test_compact_of_an_unaligned_view(isa: str) -> None:
    samples = torch.randn(1001)[1:].view(500, 2)
    accept = torch.arange(500) % 3 == 0
    rows, count = rejection_compact(samples, accept)
    assert torch.equal(rows[:count], samples[accept])
