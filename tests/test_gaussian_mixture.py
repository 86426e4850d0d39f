"""KL of Gaussians and log-density of their mixtures: against torch.distributions and by sampling."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from genfast import ops, reference

every_kl = pytest.mark.parametrize(
    "kl", [ops.gaussian_kl, reference.gaussian_kl], ids=["native", "plain"]
)
every_mixture = pytest.mark.parametrize(
    "log_prob",
    [ops.gaussian_mixture_log_prob, reference.gaussian_mixture_log_prob],
    ids=["native", "plain"],
)
KL = Callable[..., Tensor]
LogProb = Callable[..., Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def distribution(means: Tensor, log_var: Tensor, weights: Tensor | None = None) -> MixtureSameFamily:
    """The mixture as torch.distributions has it."""
    scale = torch.exp(0.5 * log_var).expand(means.shape)
    weights = torch.ones(len(means), dtype=means.dtype) if weights is None else weights
    return MixtureSameFamily(Categorical(weights), Independent(Normal(means, scale), 1))


# Far from 1, where a misplaced parenthesis shows: exp(-4) to exp(4).
LOG_VARS = {
    "scalar": torch.tensor(-2.5, dtype=torch.float64),
    "dims": 4 * torch.tanh(normal(7, seed=1)),
    "components": 4 * torch.tanh(normal(37, 7, seed=2)),
}

# ---- KL ------------------------------------------------------------------------------------------


@every_kl
def test_kl_is_that_of_torch_distributions(kl: KL) -> None:
    mean, log_var, prior_mean, prior_log_var = (2 * normal(5, 3, 7, seed=i) for i in range(4))
    q = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    p = Independent(Normal(prior_mean, torch.exp(0.5 * prior_log_var)), 1)
    standard = Independent(Normal(torch.zeros_like(mean), 1.0), 1)
    torch.testing.assert_close(
        kl(mean, log_var, prior_mean, prior_log_var), kl_divergence(q, p), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(kl(mean, log_var), kl_divergence(q, standard), rtol=1e-12, atol=0)
    shared = kl(mean, log_var, prior_mean[0, 0], prior_log_var[0, 0])
    spread = [t[0, 0].expand(mean.shape) for t in (prior_mean, prior_log_var)]
    torch.testing.assert_close(shared, kl(mean, log_var, *spread), rtol=1e-12, atol=0)


@every_kl
def test_kl_of_the_prior_itself_is_zero(kl: KL) -> None:
    """The -1 that printed formulas forget: 20 nats at 40 dimensions."""
    zero, mean, log_var = torch.zeros(3, 40), normal(3, 40).float(), normal(3, 40, seed=1).float()
    assert torch.equal(kl(zero, zero), torch.zeros(3))
    assert torch.equal(kl(mean, log_var, mean, log_var), torch.zeros(3))


@every_kl
def test_kl_is_the_mean_log_ratio_of_samples(kl: KL) -> None:
    """A million draws of z ~ q; the mean of log q(z) - log p(z) is within 5 standard errors."""
    mean, log_var, prior_mean, prior_log_var = (normal(4, seed=i) for i in range(4))
    q, p = (
        Normal(mean, torch.exp(0.5 * log_var)),
        Normal(prior_mean, torch.exp(0.5 * prior_log_var)),
    )
    z = mean + torch.exp(0.5 * log_var) * normal(1_000_000, 4, seed=4)
    ratios = (q.log_prob(z) - p.log_prob(z)).sum(1)
    exact = kl(mean, log_var, prior_mean, prior_log_var)
    assert abs(ratios.mean() - exact) <= 5 * ratios.std() / 1000


# ---- mixture -------------------------------------------------------------------------------------


@every_mixture
@pytest.mark.parametrize("log_var", LOG_VARS.values(), ids=LOG_VARS)
def test_mixture_is_that_of_torch_distributions(log_prob: LogProb, log_var: Tensor) -> None:
    z, means, weights = 2 * normal(11, 7), normal(37, 7, seed=1), torch.rand(37).double() + 0.01
    got = log_prob(z, means, log_var)
    torch.testing.assert_close(got, distribution(means, log_var).log_prob(z), rtol=1e-11, atol=0)
    weighted = log_prob(z, means, log_var, log_weights=torch.log(weights))
    exact = distribution(means, log_var, weights).log_prob(z) + torch.log(weights.sum())
    torch.testing.assert_close(weighted, exact, rtol=1e-11, atol=0)  # weights are not renormalised


@every_mixture
@pytest.mark.parametrize("log_var", LOG_VARS.values(), ids=LOG_VARS)
@pytest.mark.parametrize("weighted", [False, True])
def test_components_are_left_out_by_id(log_prob: LogProb, log_var: Tensor, weighted: bool) -> None:
    """Each query against the mixture without its own: one, several of the same id, or none."""
    z, means = normal(11, 7), normal(37, 7, seed=1)
    ids, own = torch.arange(37) // 3, torch.arange(11) * 2
    own[4] = 2**40 + int(ids[0])  # equal in the lower 32 bits alone
    log_weights = normal(37, seed=2) if weighted else None
    got = log_prob(z, means, log_var, log_weights=log_weights, query_ids=own, component_ids=ids)
    for b in range(11):
        kept = ids != own[b]
        rest = log_var[kept] if log_var.ndim == 2 else log_var
        weights = log_weights[kept] if weighted else None
        alone = log_prob(z[b : b + 1], means[kept], rest, log_weights=weights)
        torch.testing.assert_close(got[b : b + 1], alone, rtol=1e-11, atol=0)


def gradients(log_prob: LogProb, tensors: list[Tensor], **ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """log p, and the gradient of its finite elements' sum."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = log_prob(*leaves[:3], log_weights=leaves[3] if leaves[3:] else None, **ids)
    y.backward(torch.ones_like(y))
    return y.detach(), [leaf.grad for leaf in leaves]


@every_mixture
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_var", LOG_VARS.values(), ids=LOG_VARS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_query_without_components(
    log_prob: LogProb, log_var: Tensor, weighted: bool, dtype: torch.dtype
) -> None:
    """-inf and zero gradients, and no influence on the queries beside it."""
    tensors = [normal(3, 7), normal(37, 7, seed=1), log_var, normal(37, seed=2)][: 3 + weighted]
    tensors = [t.to(dtype) for t in tensors]
    same = torch.zeros(37, dtype=torch.int64)
    y, grads = gradients(log_prob, tensors, query_ids=torch.tensor([1, 0, 2]), component_ids=same)
    others, alone = gradients(log_prob, [tensors[0][[0, 2]], *tensors[1:]])
    torch.testing.assert_close(y, torch.tensor([others[0], -math.inf, others[1]], dtype=dtype))
    assert not grads[0][1].any()
    torch.testing.assert_close(grads[0][[0, 2]], alone[0])
    for got, expected in zip(grads[1:], alone[1:], strict=True):
        torch.testing.assert_close(got, expected)


@every_mixture
@pytest.mark.parametrize("weighted", [False, True])
def test_no_components_at_all(log_prob: LogProb, weighted: bool) -> None:
    for log_var in (torch.zeros(()), torch.zeros(7), torch.zeros(0, 7)):
        tensors = [normal(3, 7).float(), torch.zeros(0, 7), log_var, torch.zeros(0)][: 3 + weighted]
        y, grads = gradients(log_prob, tensors)
        assert torch.equal(y, torch.full((3,), -math.inf))
        assert not any(g.any() for g in grads)


@every_mixture
def test_a_component_of_weight_zero_is_no_component(log_prob: LogProb) -> None:
    z, means, log_weights = normal(3, 7), normal(5, 7, seed=1), normal(5, seed=2)
    log_weights[2] = -math.inf
    y, grads = gradients(log_prob, [z, means, LOG_VARS["dims"], log_weights])
    kept = torch.tensor([0, 1, 3, 4])
    expected = gradients(log_prob, [z, means[kept], LOG_VARS["dims"], log_weights[kept]])
    torch.testing.assert_close(y, expected[0])
    torch.testing.assert_close(grads[1][kept], expected[1][1])
    assert not grads[1][2].any()
    assert grads[3][2] == 0
    nothing, grads = gradients(
        log_prob, [z, means, LOG_VARS["dims"], torch.full_like(log_weights, -math.inf)]
    )
    assert torch.equal(nothing, torch.full_like(nothing, -math.inf))
    assert not any(g.any() for g in grads)


@every_mixture
def test_far_from_the_origin(log_prob: LogProb) -> None:
    """An offset of 5 at a standard deviation of 0.1 costs fp32 less than 5e-3 nats; uncentred, 2e-2."""
    means = 0.5 * normal(5000, 40) + 5
    z = means[:128] + 0.1 * normal(128, 40, seed=1)
    log_var = torch.tensor(2 * math.log(0.1))
    single = log_prob(z.float(), means.float(), log_var)
    exact = distribution(means.float().double(), log_var.double()).log_prob(z.float().double())
    assert (single.double() - exact).abs().max() <= 5e-3


# ---- the native op alone -------------------------------------------------------------------------


MEASURE = """
import torch
from genfast.ops import gaussian_mixture_log_prob
z, means, log_var = torch.randn(2048, 40), torch.randn(100_000, 40), torch.zeros(())
tensors = [t.requires_grad_() for t in (z, means, log_var)]
def run(tensors):
    gaussian_mixture_log_prob(*tensors).sum().backward()
run([t[:8].detach().requires_grad_() for t in (z, means)] + [log_var])
def kilobytes(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = kilobytes("VmRSS")
run(tensors)
print(kilobytes("VmHWM") - before)
"""


def test_memory_grows_with_queries_plus_components() -> None:
    """Forward and backward of 2,048 x 100,000 within 0.25 GB, gradients included; a matrix takes 0.8."""
    run = subprocess.run([sys.executable, "-c", MEASURE], check=True, stdout=subprocess.PIPE, text=True)
    assert 0 < int(run.stdout) * 1024 <= 0.25e9


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("log_var", LOG_VARS.values(), ids=LOG_VARS)
@pytest.mark.parametrize("queries", [1, 7, 150])
def test_ragged_tiles(isa: str, queries: int, log_var: Tensor, weighted: bool) -> None:
    """37 components fill no block, and these queries no panel, at any width of vectors."""
    tensors = [normal(queries, 7), normal(37, 7, seed=1), log_var, normal(37, seed=2)][: 3 + weighted]
    ids = {"query_ids": torch.arange(queries) % 41, "component_ids": torch.arange(37)}
    y, grads = gradients(ops.gaussian_mixture_log_prob, tensors, **ids)
    exact = gradients(reference.gaussian_mixture_log_prob, tensors, **ids)
    torch.testing.assert_close(y, exact[0], rtol=1e-11, atol=0)
    for got, true in zip(grads, exact[1], strict=True):
        torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("sigma", [0.05, 0.35, 0.5, 1.0])
def test_posteriors_that_are_left_out_are_not_missed(isa: str, sigma: float, own: bool) -> None:
    """fp32 against fp64, with next to no posteriors to speak of, few, many and all."""
    means, log_var = 0.5 * normal(3000, 40), torch.tensor(2 * math.log(sigma))
    log_var = log_var + 0.1 * normal(3000, 40, seed=2) if own else log_var
    tensors = [means[:200] + sigma * normal(200, 40, seed=1), means, log_var]
    _assert_as_exact_as_plain(tensors)


def test_scores_that_rise(isa: str) -> None:
    """Components ever nearer to the queries, so that the largest score so far never lasts."""
    means = torch.linspace(12, -0.1, 1500, dtype=torch.float64)[:, None].expand(-1, 5)
    _assert_as_exact_as_plain([0.1 * normal(9, 5), means, torch.tensor(-2.0)])


def _assert_as_exact_as_plain(tensors: list[Tensor]) -> None:
    exact = gradients(reference.gaussian_mixture_log_prob, [t.float().double() for t in tensors])
    got = gradients(ops.gaussian_mixture_log_prob, [t.float() for t in tensors])
    plain = gradients(reference.gaussian_mixture_log_prob, [t.float() for t in tensors])
    for mine, torchs, true in zip(
        (got[0], *got[1]), (plain[0], *plain[1]), (exact[0], *exact[1]), strict=True
    ):
        rounding = torch.finfo(torch.float32).eps * true.abs().max()
        assert (mine.double() - true).abs().max() <= rounding + 2 * (torchs - true).abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_is_not_hidden(isa: str, dtype: torch.dtype) -> None:
    z, means = normal(9, 7).to(dtype), normal(37, 7, seed=1).to(dtype)
    z[4, 2] = math.nan
    y, grads = gradients(ops.gaussian_mixture_log_prob, [z, means, torch.zeros((), dtype=dtype)])
    assert torch.equal(y.isnan(), torch.arange(9) == 4)
    assert torch.equal(grads[0].isnan().any(1), torch.arange(9) == 4)
    assert grads[1].isnan().all()
    z[4, 2], means[30, 1] = 0, math.nan
    assert ops.gaussian_mixture_log_prob(z, means, torch.zeros((), dtype=dtype)).isnan().all()


@pytest.mark.parametrize("own", [False, True])
def test_gradients_of_narrow_components_do_not_cancel(own: bool) -> None:
    """(z - mean)^2 from z^2, z mean and mean^2 would lose all digits but a few."""
    torch.manual_seed(0)
    means = 0.5 * torch.randn(2000, 40)
    z = means[:64] + 0.05 * torch.randn(64, 40)
    log_var = 2 * math.log(0.05) + (0.3 * torch.randn(2000, 40) if own else torch.zeros(40))
    upstream = torch.randn(64)

    def gradients(log_prob: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = [x.to(dtype).requires_grad_() for x in (z, means, log_var)]
        return torch.autograd.grad(log_prob(*inputs), inputs, upstream.to(dtype))

    exact = gradients(reference.gaussian_mixture_log_prob, torch.double)
    eager = gradients(reference.gaussian_mixture_log_prob, torch.float)
    for ours, theirs, right in zip(
        gradients(ops.gaussian_mixture_log_prob, torch.float), eager, exact, strict=True
    ):
        assert (ours - right).abs().max() <= 2 * (theirs - right).abs().max()
