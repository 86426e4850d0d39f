"""The CUDA kernels of the Gaussian mixture, emulated: numbers of features, precisions, skips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from checks import largest
from emulated import SCHEDULES, shuffled_emulation
from torch import Tensor

from genfast import reference

op = torch.ops.genfast.gaussian_mixture_log_prob.default
gradient_op = torch.ops.genfast.gaussian_mixture_log_prob_bwd.default


@pytest.fixture(autouse=True)
def emulated() -> Iterator[ModuleType]:
    with shuffled_emulation() as module:
        yield module


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def results(z: Tensor, means: Tensor, log_var: Tensor, tf32: bool = False) -> list[Tensor]:
    """log p and the gradients of its sum, by the registered ops."""
    y, evidence = op(z, means, log_var, None, None, None, tf32)
    grad, wanted = torch.ones_like(y), [True, True, True, False]
    gradients = gradient_op(grad, evidence, z, means, log_var, None, None, None, tf32, wanted)
    return [y, *gradients[:3]]


def plain(z: Tensor, means: Tensor, log_var: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in (z, means, log_var)]
    y = reference.gaussian_mixture_log_prob(*leaves)
    return [y.detach(), *torch.autograd.grad(y.sum(), leaves)]


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("dim", [1, 16, 17, 33, 40, 64, 70])
def test_every_number_of_features(dim: int, own: bool) -> None:
    """Tensor cores up to 16, 40 and 64 features, ordinary arithmetic; copies of 16 bytes and of 4."""
    log_var = 0.5 * torch.tanh(normal(70, dim, seed=2) if own else normal(dim, seed=2))
    points = 0.5 * normal(37, dim), 0.5 * normal(70, dim, seed=1)
    tensors = [t.float() for t in (*points, log_var)]
    exact = plain(*(t.double() for t in tensors))
    for got, torchs, true in zip(results(*tensors), plain(*tensors), exact, strict=True):
        rounding = torch.finfo(torch.float32).eps * (1 + largest(true))
        assert largest(got - true) <= rounding + 2 * largest(torchs - true)


@pytest.mark.parametrize("tf32", [False, True], ids=["fp32", "tf32"])
def test_points_in_columns(tf32: bool) -> None:
    """Tensors that lie in memory transposed, which elementwise functions of PyTorch keep so."""
    points = 0.5 * normal(12, 37).float(), 0.5 * normal(12, 70, seed=1).float()
    log_var = normal(12, seed=2).float()
    transposed = results(points[0].t(), points[1].t(), log_var, tf32)
    rows = results(points[0].t().contiguous(), points[1].t().contiguous(), log_var, tf32)
    for got, expected in zip(transposed, rows, strict=True):
        assert torch.allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_tf32_is_the_density_of_points_that_moved_a_little(offset: float) -> None:
    """Far nearer than TF32 products with exact norms, which at sigma 0.1 are off by 0.8 nats."""
    means = 0.5 * normal(300, 40) + offset
    z, log_var = means[:20] + 0.1 * normal(20, 40, seed=1), torch.full((40,), 2 * math.log(0.1))
    tensors = [z.float(), means.float(), log_var]
    exact = plain(*(t.double() for t in tensors))
    single, rounded = results(*tensors), results(*tensors, tf32=True)
    assert largest(single[0] - exact[0]) <= 5e-3
    assert 1e-4 <= largest(rounded[0] - exact[0]) <= 0.15
    for got, true in zip(rounded[1:], exact[1:], strict=True):
        assert largest(got - true) <= 0.02 * (1 + largest(true))


def test_few_queries_share_the_columns_among_blocks(emulated: ModuleType) -> None:
    """Many splits, of which some skip every tile; the same bits under every schedule."""
    means = 0.5 * normal(1500, 24)
    z, log_var = means[:3] + 0.1 * normal(3, 24, seed=1), torch.full((24,), 2 * math.log(0.1))
    tensors = [z.float(), means.float(), log_var]
    runs = []
    for schedule in SCHEDULES:
        emulated.configure(*schedule)
        runs.append(results(*tensors))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, runs[0], strict=True))
    # Scores are sums of terms up to |z - centre|^2 / (2 variance), 400 here, of which 22 bits are kept.
    for got, true in zip(runs[0], plain(*(t.double() for t in tensors)), strict=True):
        assert largest(got - true) <= 400 * 2**-22 * (1 + largest(true))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_is_not_hidden(dtype: torch.dtype) -> None:
    z, means = normal(9, 7).to(dtype), normal(37, 7, seed=1).to(dtype)
    z[4, 2] = math.nan
    y, of_z, of_means, _ = results(z, means, torch.zeros(7, dtype=dtype))
    assert torch.equal(y.isnan(), torch.arange(9) == 4)
    assert torch.equal(of_z.isnan().any(1), torch.arange(9) == 4)
    assert of_means.isnan().all()
