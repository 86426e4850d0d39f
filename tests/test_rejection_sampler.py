"""Discriminator rejection sampling: the right law, what is said and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.multiprocessing
from rejection_ranks import SPREAD, generate, log_ratio
from torch import Tensor, nn

from genfast.sampling import (
    DiscriminatorRejectionSampler,
    LinearCalibration,
    StreamingPercentile,
    keep_training,
    with_head,
)

LOG_M = math.log(SPREAD)


def sampler_of(discriminator=log_ratio, **settings) -> DiscriminatorRejectionSampler:
    return DiscriminatorRejectionSampler(generate, discriminator, 1, **settings)


def kolmogorov_smirnov(x: Tensor, spread: float = 1.0) -> float:
    """sqrt(n) times the largest distance from the distribution function of N(0, spread^2).

    Above 1.95 in one of a thousand samples of it.
    """
    x = x.flatten().double().sort().values
    cdf = torch.special.ndtr(x / spread)
    n = len(x)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return math.sqrt(n) * max((cdf - steps[:-1]).max().item(), (steps[1:] - cdf).max().item())


# ---- the law -------------------------------------------------------------------------------------


def test_analytic_densities() -> None:
    """N(0, 1) out of N(0, 1.5^2): one proposal of 1.5 is accepted, and the samples are of N(0, 1)."""
    sampler = sampler_of(batch_size=2**16)
    sampler.burn_in(10_000)
    x = sampler.sample(340_000)
    assert abs(sampler.state.acceptance - 1 / SPREAD) < 0.002
    assert abs(sampler.state.log_m - LOG_M) < 1e-6
    assert abs(x.std().item() - 1) < 0.005
    assert kolmogorov_smirnov(x) < 1.95
    assert kolmogorov_smirnov(generate(torch.randn(340_000)), SPREAD) < 1.95
    assert kolmogorov_smirnov(generate(torch.randn(340_000))) > 30  # the test sees the difference


def test_percentile_is_in_per_cent() -> None:
    """gamma is the 80th percentile of F, and F exceeds it for a fifth of the proposals."""
    sampler = sampler_of(percentile=80, batch_size=4096, log_m=LOG_M)
    sampler.burn_in(40_000)
    d = log_ratio(generate(sampler._latents(40_000, 0, 0))).double() - sampler.state.log_m
    f = d - torch.log(-torch.expm1(d - 1e-8))
    assert abs(sampler.state.gamma - torch.quantile(f, 0.8).item()) < 0.02
    assert abs((f > sampler.state.gamma).double().mean().item() - 0.2) < 0.005
    sampler.sample(2000)
    median = sampler_of(percentile=50, batch_size=4096, log_m=LOG_M)
    median.burn_in(40_000)
    median.sample(2000)
    assert sampler.state.acceptance < median.state.acceptance - 0.1  # larger gamma: fewer accepted


def test_the_published_percentile_is_nearly_a_no_op() -> None:
    """The 0.8-th percentile, as a published sampler has it, lets nearly everything pass."""
    proposals = generate(sampler_of()._latents(40_000, 0, 0))
    d = (log_ratio(proposals).double() - LOG_M).clamp(max=0)
    f = d - torch.log(-torch.expm1(d - 1e-8))
    bug = sampler_of(gamma=torch.quantile(f, 0.008).item(), log_m=LOG_M, batch_size=4096)
    x = bug.sample(40_000)
    assert bug.state.acceptance > 0.97
    assert x.std().item() > 0.9 * SPREAD  # the generator's own, not the data's 1
    meant = sampler_of(gamma=torch.quantile(f, 0.8).item(), log_m=LOG_M, batch_size=4096)
    assert meant.sample(10_000).std().item() < 1
    with pytest.raises(ValueError, match=r"percentile is in per cent: 0\.8 .* pass 80"):
        sampler_of(percentile=0.8)


def test_calibration_restores_the_law() -> None:
    """An over-confident discriminator accepts too few in the tails; Platt scaling mends it."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(50_000, 1, generator=generator)
    fake = generate(torch.randn(50_000, 1, generator=generator))

    def confident(x: Tensor) -> Tensor:
        return 3 * log_ratio(x) + 1

    fitted = LinearCalibration.fit(confident(real), confident(fake))
    assert abs(fitted.slope - 1 / 3) < 0.02
    assert abs(fitted.intercept + 1 / 3) < 0.02
    plain, calibrated = (
        sampler_of(confident, batch_size=4096),
        sampler_of(confident, batch_size=4096, calibration=fitted),
    )
    for sampler in (plain, calibrated):
        sampler.burn_in(5000)
    assert kolmogorov_smirnov(plain.sample(20_000)) > 5
    assert kolmogorov_smirnov(calibrated.sample(20_000)) < 1.95


def test_calibration_refuses_what_has_no_best_slope() -> None:
    with pytest.raises(ValueError, match="a threshold separates"):
        LinearCalibration.fit(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="generated must hold finite"):
        LinearCalibration.fit(torch.tensor([2.0]), torch.tensor([math.nan]))


def test_a_critic_gets_a_logit_by_a_head_that_is_trained() -> None:
    """A hinge critic's score says which is more real, not by how much; the head learns the log ratio."""
    torch.manual_seed(0)

    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.norm = nn.BatchNorm1d(1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.scale * (1 - x[:, 0].abs()) + 0 * self.norm(x)[:, 0])

    critic = Critic()
    discriminator = with_head(critic, 1)
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    losses = keep_training(
        discriminator,
        lambda n: torch.randn(n, 1),
        lambda n: generate(torch.randn(n, 1)),
        steps=800,
        batch_size=1024,
        lr=3e-3,
    )
    assert losses[-1] < math.log(2) - 0.01
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    # tanh is flat at both ends; where it is not the score determines |x|, and the head the ratio.
    x = torch.linspace(0.3, 1.9, 50)[:, None]
    with torch.no_grad():
        assert (discriminator(x) - log_ratio(x)).abs().max() < 0.12


def test_keep_training_finds_the_optimal_discriminator() -> None:
    torch.manual_seed(0)
    quadratic = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))

    class Quadratic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = quadratic

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x * x)

    discriminator = Quadratic().eval()
    keep_training(
        discriminator,
        lambda n: torch.randn(n, 1),
        lambda n: generate(torch.randn(n, 1)),
        steps=1500,
        batch_size=2048,
        lr=1e-2,
    )
    assert not discriminator.training
    x = torch.linspace(-2, 2, 50)[:, None]
    assert (discriminator(x) - log_ratio(x)).abs().max() < 0.06


# ---- what is said, and what is refused -----------------------------------------------------------


def test_progress_and_bounded_parts() -> None:
    sampler = sampler_of(batch_size=100, log_m=LOG_M)
    steps: list[int] = []
    parts = list(sampler.batches(250, progress=steps.append))
    assert sum(steps) == sum(len(part.samples) for part in parts) == 250
    assert max(len(part.samples) for part in parts) <= 100
    assert sampler.sample(0).shape == (0, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bar(capsys: pytest.CaptureFixture[str]) -> None:
    sampler_of(log_m=LOG_M).sample(30, progress=True)
    assert "30/30" in capsys.readouterr().err


def test_too_few_proposals() -> None:
    sampler = sampler_of(log_m=50.0)
    with pytest.raises(RuntimeError, match=r"1000 proposals gave 0 of 5 samples \(acceptance 0\)"):
        sampler.sample(5, max_proposals=1000)
    with pytest.raises(RuntimeError, match="call burn_in"):
        sampler_of().sample(1)


def nan_in(x: Tensor) -> Tensor:
    return torch.where(torch.arange(len(x)) == 3, math.nan, x[:, 0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sampler_of(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: sampler_of(gamma=math.inf), "gamma=inf"),
        (lambda: sampler_of(log_m=math.nan), "log_m=nan"),
        (lambda: sampler_of(percentile=101), "percentile must be between 0 and 100, got 101"),
        (lambda: sampler_of(percentile=80, gamma=1), "gamma=1 and percentile=80"),
        (lambda: DiscriminatorRejectionSampler(generate, log_ratio, 0), "latents must be at least 1"),
        (lambda: sampler_of().burn_in(0), "n must be at least 1, got 0"),
        (lambda: sampler_of(log_m=0).sample(-1), "n must be at least 0, got -1"),
        (
            lambda: sampler_of(lambda x: x.expand(-1, 3)).burn_in(5),
            r"logits of shape \(5,\), got \(5, 3\)",
        ),
        (lambda: sampler_of(nan_in).burn_in(10), "gave 1 logits of 10 that are NaN"),
        (lambda: sampler_of(nan_in, log_m=0).sample(10), "that are NaN"),
        (lambda: keep_training(nn.Flatten(), torch.randn, torch.randn, steps=1), "no weight"),
        (lambda: with_head(nn.Flatten(), 0), "inputs must be at least 1"),
    ],
)
def test_bad_input_is_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_streaming_percentiles() -> None:
    generator = torch.Generator().manual_seed(0)
    for values in (
        torch.randn(20_000, generator=generator),
        1e-3 * torch.rand(20_000, generator=generator),
        torch.exp(8 * torch.randn(20_000, generator=generator)),
    ):
        whole, parts = StreamingPercentile(), StreamingPercentile()
        whole.add(values)
        for part in values[torch.randperm(20_000, generator=generator)].split(331):
            parts.add(part)
        assert torch.equal(whole.counts, parts.counts)
        for percent in (0.0, 0.8, 50.0, 95.0, 100.0):
            low, high = (
                torch.quantile(values.double(), percent / 100, interpolation=side).item()
                for side in ("lower", "higher")
            )
            assert low - 6e-5 - 0.006 * abs(low) <= whole.percentile(percent)
            assert whole.percentile(percent) <= high + 6e-5 + 0.006 * abs(high)
    extremes = StreamingPercentile()
    extremes.add(torch.tensor([math.inf, -math.inf, math.nan, 0.0]))
    assert extremes.counts.sum() == 3
    assert abs(extremes.percentile(50)) < 1e-4
    with pytest.raises(ValueError, match="percent must be"):
        extremes.percentile(100.5)
    with pytest.raises(ValueError, match="no values"):
        StreamingPercentile().percentile(50)
