"""The VAE: every term against torch.distributions or a closed form."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from linear_gaussian import exact_marginal, exact_posterior, linear_gaussian_vae
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from genfast.models import VAE
from genfast.models.latent import Posterior, densities, likelihoods
from genfast.models.latent.importance import StreamingLogMean

SCALES = [0.05, 1.0, 20.0]  # standard deviations: a misplaced parenthesis does not show at 1


def gaussian(scale: float, n: int = 6, d: int = 5) -> tuple[Tensor, Tensor, Normal]:
    """Mean, log-variance and the distribution."""
    torch.manual_seed(1)
    mean = torch.randn(n, d, dtype=torch.float64)
    std = scale * (0.5 + torch.rand(n, d, dtype=torch.float64))
    return mean, 2 * std.log(), Normal(mean, std)


# -- terms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_log_densities_of_codes(scale: float) -> None:
    mean, log_var, expected = gaussian(scale)
    z = torch.randn(6, 5, dtype=torch.float64) * 2
    torch.testing.assert_close(
        densities.gaussian_log_prob(z, mean, log_var), expected.log_prob(z).sum(1)
    )
    standard = Normal(torch.zeros(5, dtype=torch.float64), 1.0)
    torch.testing.assert_close(densities.standard_normal_log_prob(z), standard.log_prob(z).sum(1))


@pytest.mark.parametrize("scale", SCALES)
def test_kl_has_its_minus_one(scale: float) -> None:
    """A printed form lacks it: the gradient is the same, the ELBO off by D / 2 nats."""
    model = VAE((1, 2, 2), latent_dim=5)
    mean, log_var, expected = gaussian(scale)
    kl = model.kl(Posterior(mean, log_var), mean)
    standard = Normal(torch.zeros(5, dtype=torch.float64), 1.0)
    torch.testing.assert_close(kl, kl_divergence(expected, standard).sum(1))
    zero = torch.zeros(1, 5)
    assert model.kl(Posterior(zero, zero), zero).item() == 0


def test_kl_is_the_mean_of_log_ratios() -> None:
    """Of log(q / p), not of log q / log p."""
    torch.manual_seed(0)
    posterior = Posterior(torch.tensor([[0.7, -0.4]]).double(), torch.tensor([[-1.0, 0.6]]).double())
    model = VAE((1, 2, 2), latent_dim=2).double()
    many = Posterior(*(values.expand(1_000_000, 2) for values in posterior))
    z = many.sample()
    ratios = many.log_prob(z) - model.prior_log_prob(z)
    error = 4 * ratios.std().item() / 1000
    assert ratios.mean().item() == pytest.approx(model.kl(posterior, z).item(), abs=error)


def test_codes_are_drawn_from_the_encoder_by_its_standard_deviation() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.full((200_000, 1), 3.0), torch.full((200_000, 1), math.log(0.25)))
    z = posterior.sample()
    assert z.mean().item() == pytest.approx(3.0, abs=0.006)
    assert z.std().item() == pytest.approx(0.5, abs=0.004)  # 0.25 is the variance


def test_bernoulli_likelihood() -> None:
    torch.manual_seed(0)
    likelihood = likelihoods.Bernoulli(2)
    logits, x = torch.randn(6, 2, 3, 4).double() * 8, torch.rand(2, 2, 3, 4).double().round()
    log_p = likelihood.log_prob(logits, x)
    clamped = logits.sigmoid().clamp(1e-5, 1 - 1e-5)  # as published
    expected = Independent(Bernoulli(clamped), 3).log_prob(x.repeat(3, 1, 1, 1))
    torch.testing.assert_close(log_p, expected)
    torch.testing.assert_close(likelihood.mean(logits), clamped)
    with pytest.raises(ValueError, match="x must hold 0 and 1 for a Bernoulli likelihood: binarise"):
        likelihood.check(torch.full((1, 2, 3, 4), 0.5))


@pytest.mark.parametrize("scale", SCALES)
def test_gaussian_likelihood(scale: float) -> None:
    likelihood = likelihoods.Gaussian(1).double()
    with torch.no_grad():
        likelihood.log_variance.fill_(2 * math.log(scale))
    mean, x = torch.randn(6, 1, 3, 4).double(), torch.rand(2, 1, 3, 4).double()
    expected = Independent(Normal(mean, scale), 3).log_prob(x.repeat(3, 1, 1, 1))
    torch.testing.assert_close(likelihood.log_prob(mean, x), expected)


@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 17), (3, 3)])
def test_logistic_likelihood_sums_to_one(colours: int, levels: int) -> None:
    torch.manual_seed(0)
    likelihood = likelihoods.Logistic(colours, levels)
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    every = torch.tensor(list(itertools.product(values.tolist(), repeat=colours))).double()
    x = every.view(-1, colours, 1, 1)
    params = (torch.randn(1, 2 * colours, 1, 1).double() * 2).expand(len(x), -1, -1, -1)
    log_p = likelihood.log_prob(params, x)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)
    uniforms = (torch.arange(20_000).double() + 0.5) / 20_000
    drawn = likelihood.sample(params[:1].expand(20_000, -1, -1, -1), uniforms.view(-1, 1, 1, 1))
    if colours == 1:
        counts = torch.stack([(drawn.flatten() == value).double().mean() for value in values])
        torch.testing.assert_close(counts, log_p.exp(), atol=2e-4, rtol=0)
    samples = likelihood.log_prob(params[:1].repeat(4, 1, 1, 1), x[:2])
    torch.testing.assert_close(samples, log_p[:2].repeat(2))


# -- bounds and estimates --------------------------------------------------------------------------


def test_log_likelihood_is_the_elbo_and_the_gap_of_the_posterior() -> None:
    """log p(x) = E[ELBO] + KL(q(z|x) || p(z|x)): of q given x, not of an aggregate q."""
    torch.manual_seed(0)
    model = linear_gaussian_vae(tilt=0.3)
    x = exact_marginal(model).sample((4,)).view(-1, 1, 3, 4)
    elbo = model.elbo(x.repeat(20_000, 1, 1, 1)).detach().view(20_000, 4)
    mean, covariance = exact_posterior(model, x)
    posterior = model.encode(x)
    exact = torch.distributions.MultivariateNormal(mean, covariance)
    q = torch.distributions.MultivariateNormal(posterior.mean, posterior.log_var.exp().diag_embed())
    expected = exact_marginal(model).log_prob(x.flatten(1)) - kl_divergence(q, exact)
    errors = 4 * elbo.std(0) / 20_000**0.5
    assert ((elbo.mean(0) - expected).abs() < errors).all()
    assert errors.max() < 0.08


def test_importance_estimate_of_a_linear_gaussian_model() -> None:
    """Within 0.01 nats of the exact marginal, and ELBO <= estimate <= exact up to the errors stated."""
    torch.manual_seed(0)
    model = linear_gaussian_vae()
    x = exact_marginal(model).sample((64,)).view(-1, 1, 3, 4)
    exact = exact_marginal(model).log_prob(x.flatten(1))
    with torch.no_grad():
        estimate = model.importance_estimate(x, 20_000)
        elbo = model.elbo(x.repeat(200, 1, 1, 1))
    difference = estimate.log_prob - exact
    assert difference.mean().abs() < 0.01
    assert difference.abs().max() < 0.05
    assert (estimate.log_prob <= exact + 4 * estimate.standard_error).all()
    assert elbo.mean() < estimate.log_prob.mean()
    # The errors stated are those found: 64 images, so to one in four or so.
    assert (difference / estimate.standard_error).std().item() == pytest.approx(1, abs=0.3)


def test_the_estimate_rises_with_its_samples() -> None:
    torch.manual_seed(0)
    model = linear_gaussian_vae(tilt=0.3)
    x = exact_marginal(model).sample((500,)).view(-1, 1, 3, 4)
    exact = exact_marginal(model).log_prob(x.flatten(1)).mean().item()
    with torch.no_grad():
        means = [model.log_prob(x, importance_samples=count).mean().item() for count in (1, 5, 50, 2000)]
    assert means == sorted(means), means
    assert means[-1] == pytest.approx(exact, abs=0.02)
    assert means[0] < exact - 0.1


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_streaming_log_mean_equals_the_whole(part: int) -> None:
    torch.manual_seed(0)
    weights = torch.randn(1000, 3).double() * torch.tensor([1.0, 5.0, 40.0]).double() - 800
    weights[0, 0] = -math.inf
    stream = StreamingLogMean(3)
    for values in weights.split(part):
        stream.add(values)
    estimate = stream.estimate()
    torch.testing.assert_close(estimate.log_prob, weights.logsumexp(0) - math.log(1000))
    shifted = (weights - weights.amax(0)).exp()
    error = shifted.std(0) / 1000**0.5 / shifted.mean(0)
    torch.testing.assert_close(estimate.standard_error, error)
    nothing = StreamingLogMean(1)
    nothing.add(torch.full((2, 1), -math.inf))
    assert nothing.estimate().log_prob.item() == -math.inf


def test_figures_are_sums_of_an_image() -> None:
    """Neither the batch nor the size of the data set scales a term (a kld_weight of batch / N does)."""
    model = VAE((1, 4, 4), latent_dim=3, hidden=8).double()
    x = torch.rand(6, 1, 4, 4, dtype=torch.float64).round()
    torch.manual_seed(0)
    whole = model.elbo(x)
    posterior = model.encode(x)
    torch.manual_seed(0)
    noise = torch.randn(6, 3, dtype=torch.float64)
    z = posterior.mean + (0.5 * posterior.log_var).exp() * noise
    log_p = model.likelihood.log_prob(model.decoder(z), x)
    kl = model.kl(posterior, z)
    torch.testing.assert_close(whole, log_p - kl)  # a KL weight of 1
    for n in range(6):
        one = slice(n, n + 1)
        alone = model.likelihood.log_prob(model.decoder(z[one]), x[one])
        alone = alone - model.kl(Posterior(*(v[one] for v in posterior)), z[one])
        torch.testing.assert_close(alone, whole[one])
    torch.manual_seed(0)
    torch.testing.assert_close(model.loss(x), -whole.mean())
    torch.manual_seed(0)
    torch.testing.assert_close(model.elbo(x, kl_weight=0.25), log_p - 0.25 * kl)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "logistic"])
def test_gradients(likelihood: str) -> None:
    model = VAE((1, 2, 2), latent_dim=2, hidden=3, likelihood=likelihood).double()  # type: ignore
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64).round()
    names, tensors = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        torch.manual_seed(0)
        replaced = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            _Elbo(model), {f"model.{k}": v for k, v in replaced.items()}, x
        )

    assert torch.autograd.gradcheck(loss, tensors)
    torch.manual_seed(0)
    model.loss(x).backward()
    assert all(weight.grad is not None for weight in model.parameters())


class _Elbo(torch.nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.elbo(x)


# -- samples, shapes, errors -----------------------------------------------------------------------


@pytest.mark.parametrize("pixel_noise", [False, True])
def test_a_sample_depends_on_its_number_alone(pixel_noise: bool) -> None:
    model = VAE((1, 4, 5), latent_dim=3, hidden=8)
    whole = model.sample(6, seed=4, pixel_noise=pixel_noise)
    parts = [model.sample(2, seed=4, start=start, pixel_noise=pixel_noise) for start in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert (model.sample(6, seed=5, pixel_noise=pixel_noise) != whole).any()
    assert whole.min() >= 0
    assert whole.max() <= 1
    if pixel_noise:
        assert set(whole.unique().tolist()) <= {0.0, 1.0}


def test_prior_samples_are_standard_normal() -> None:
    z = VAE((1, 2, 2), latent_dim=4).prior_sample(20_000, seed=1)
    assert z.mean(0).abs().max() < 0.03
    torch.testing.assert_close(torch.cov(z.T), torch.eye(4), atol=0.04, rtol=0)


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "logistic"])
def test_shapes(network: str, likelihood: str) -> None:
    model = VAE(
        (3, 5, 6), latent_dim=2, network=network, hidden=8, channels=4, likelihood=likelihood,
    )  # fmt: skip
    x = torch.rand(4, 3, 5, 6).round()
    assert model.elbo(x).shape == (4,)
    assert model.log_prob(x, importance_samples=3).shape == (4,)
    assert model.reconstruct(x).shape == model.sample(4).shape == x.shape
    assert model.interpolate(x[:2], x[2:], 5).shape == (5, 2, 3, 5, 6)
    torch.testing.assert_close(model.interpolate(x[:2], x[2:], 3)[0], model.reconstruct(x[:2]))
    assert model.elbo(x[:0]).shape == model.log_prob(x[:0]).shape == (0,)
    assert model.sample(0).shape == (0, 3, 5, 6)
    half = torch.autocast("cpu", torch.bfloat16)
    with half:
        assert model.elbo(x).dtype == torch.float32


def test_published_architecture() -> None:
    """2 gated layers of 300, 40 dimensions: the parameters of jmtomczak/vae_vampprior's VAE."""
    model = VAE((1, 28, 28))
    gated = lambda inputs, outputs: 2 * (inputs + 1) * outputs  # noqa: E731
    encoder = gated(784, 300) + gated(300, 300) + 2 * 301 * 40
    decoder = gated(40, 300) + gated(300, 300) + 301 * 784
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder
    assert model.encoder[1].both.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.01)


def test_errors() -> None:
    with pytest.raises(ValueError, match="likelihood 'bernoulli' needs images of 2 levels, got 256"):
        VAE((1, 4, 4), levels=256, likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"likelihood must be 'auto', .* got 'beta'"):
        VAE((1, 4, 4), likelihood="beta")  # type: ignore[arg-type]
    model = VAE((1, 4, 4), hidden=8)
    with pytest.raises(ValueError, match="importance_samples must be at least 1, got 0"):
        model.log_prob(torch.zeros(1, 1, 4, 4), importance_samples=0)
    with pytest.raises(ValueError, match="0 and 1 for a Bernoulli"):
        model.elbo(torch.full((1, 1, 4, 4), 0.5))
    with pytest.raises(ValueError, match="steps must be at least 2"):
        model.interpolate(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 1)
    with pytest.raises(ValueError, match="n=-1 and start=0 must be at least 0"):
        model.sample(-1)
