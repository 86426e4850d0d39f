"""The priors of the VampPrior and the Exemplar VAE against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genfast.models import ExemplarVAE, VampPriorVAE

SMALL = {"latent_dim": 3, "hidden": 8}


def vamp(components: int = 6) -> VampPriorVAE:
    torch.manual_seed(0)
    model = VampPriorVAE((1, 4, 4), components=components, **SMALL).double()
    with torch.no_grad():  # pseudo-inputs and variances far from one another, and from 1
        model.pseudo_inputs.uniform_(-0.2, 1.2)
        model.encoder_log_var.weight.mul_(3)
        model.encoder_log_var.bias.copy_(torch.tensor([-5.0, 0.5, 1.5]))
    return model


def exemplar(count: int = 9, log_var: float = -3.0, **settings: object) -> tuple[ExemplarVAE, Tensor]:
    torch.manual_seed(0)
    model = ExemplarVAE((1, 4, 4), **SMALL, **settings).double()
    with torch.no_grad():
        model.prior_log_variance.fill_(log_var)
    x = torch.rand(count, 1, 4, 4, dtype=torch.float64).round()
    model.set_exemplars(x)
    return model, x


def gaussian_mixture(means: Tensor, scales: Tensor) -> MixtureSameFamily:
    components = Independent(Normal(means, scales), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(means), dtype=torch.float64)), components)


def test_vamp_prior_is_the_mixture_of_its_posteriors() -> None:
    """Each with a diagonal variance of its own; only squared distances are divided by it."""
    model = vamp()
    mean, log_var = model.encode(model.pseudo_inputs.clamp(0, 1))
    assert log_var.max() - log_var.min() > 5
    z = torch.randn(20, 3, dtype=torch.float64)
    expected = gaussian_mixture(mean, (log_var / 2).exp()).log_prob(z)
    torch.testing.assert_close(model.prior_log_prob(z), expected)
    posterior = model.encode(torch.rand(20, 1, 4, 4, dtype=torch.float64))
    q = Independent(Normal(posterior.mean, (posterior.log_var / 2).exp()), 1).log_prob(z)
    torch.testing.assert_close(model.kl(posterior, z), q - expected)


def test_vamp_prior_learns_its_pseudo_inputs() -> None:
    model = vamp()
    model.loss(torch.rand(5, 1, 4, 4, dtype=torch.float64).round()).backward()
    gradient = model.pseudo_inputs.grad
    assert gradient is not None
    inside = (model.pseudo_inputs > 0) & (model.pseudo_inputs < 1)
    assert (gradient[inside] != 0).all()
    assert (gradient[~inside] == 0).all()  # clamped
    fresh = VampPriorVAE((1, 28, 28))
    assert fresh.pseudo_inputs.shape == (500, 1, 28, 28)
    assert fresh.pseudo_inputs.mean().item() == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("kind", ["vamp", "exemplar"])
def test_prior_samples_follow_the_prior(kind: str) -> None:
    """The mean of exp(log p' - log p) over draws of p is 1 for any other density p'."""
    model = vamp() if kind == "vamp" else exemplar(log_var=0.5)[0]
    with torch.no_grad():
        z = model.prior_sample(20_000, seed=2)
        centre, scale = z.mean(0), z.std(0)
        other = Independent(Normal(centre, scale / 2), 1).log_prob(z)
        ratios = (other - model.prior_log_prob(z)).exp()
    mean, error = ratios.mean().item(), ratios.std().item() / 20_000**0.5
    assert abs(mean - 1) < 4 * error
    assert error < 0.03
    again = model.prior_sample(5, seed=2, start=7)
    torch.testing.assert_close(again, z[7:12])


@pytest.mark.parametrize("log_var", [-5.0, 0.0, 3.0])
def test_exemplar_prior_is_the_mixture_of_its_exemplars(log_var: float) -> None:
    model, x = exemplar(log_var=log_var)
    z = torch.randn(20, 3, dtype=torch.float64)
    scale = torch.full((9, 3), math.exp(log_var / 2), dtype=torch.float64)
    means = model.encode(x).mean  # the mean network of q itself
    expected = gaussian_mixture(means, scale).log_prob(z)
    torch.testing.assert_close(model.prior_log_prob(z), expected)
    for n in range(9):
        others = torch.arange(9) != n
        left = gaussian_mixture(means[others], scale[others]).log_prob(z)
        ids = torch.full((20,), n)
        torch.testing.assert_close(model.prior_log_prob(z, ids), left)


def test_duplicates_of_an_image_are_all_left_out_and_not_counted() -> None:
    model, x = exemplar()
    ids = torch.arange(9)
    ids[[2, 5, 7]] = 2
    model.set_exemplars(x, ids)
    z = torch.randn(4, 3, dtype=torch.float64)
    others = ids != 2
    scale = torch.full((6, 3), math.exp(-1.5), dtype=torch.float64)
    expected = gaussian_mixture(model.exemplar_means[others], scale).log_prob(z)
    torch.testing.assert_close(model.prior_log_prob(z, torch.full((4,), 2)), expected)
    means, drawn = model.exemplar_means, torch.tensor([3, 2, 2, 8])  # with replacement
    scale = scale[:2]
    expected = gaussian_mixture(means[[3, 8]], scale).log_prob(z)
    found = model.mixture_log_prob(z, torch.full((4,), 2), means[drawn], drawn)
    torch.testing.assert_close(found, expected)


def test_an_image_with_nothing_left_has_minus_infinity_and_no_gradient() -> None:
    model, _ = exemplar()
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    means = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    log_p = model.mixture_log_prob(z, torch.tensor([4, 5]), means, torch.tensor([4, 4, 4]))
    assert log_p[0] == -math.inf
    assert log_p[1].isfinite()
    log_p.sum().backward()
    assert (z.grad[0] == 0).all()
    assert (z.grad[1] != 0).all()
    assert not means.grad.isnan().any()


@pytest.mark.parametrize("neighbours", [1, 3, 8])
def test_bound_of_the_neighbours_is_below_the_exact_prior_for_every_image(neighbours: int) -> None:
    """And the published normaliser is not: it divides a sum of the largest terms by their number."""
    model, x = exemplar(60, log_var=-2.0)
    means = model.exemplar_means
    ids = torch.arange(60)
    distances = torch.cdist(means, means).fill_diagonal_(math.inf)
    union = distances[:10].topk(neighbours, largest=False).indices.unique()
    z = model.encode(x[:10]).sample().detach()
    exact = model.prior_log_prob(z, ids[:10])
    bound = model.mixture_log_prob(z, ids[:10], means[union], union, torch.full((10,), 59))
    assert (bound <= exact + 1e-9).all()
    reference = model.mixture_log_prob(z, ids[:10], means[union], union)
    assert (reference > exact).any()
    everyone = model.mixture_log_prob(z, ids[:10], means, ids, torch.full((10,), 59))
    torch.testing.assert_close(everyone, exact)


def test_gradients_reach_the_exemplars_that_are_re_encoded() -> None:
    """And no others: what is cached has none."""
    model, x = exemplar()
    images = x[:3].clone()
    exemplars = x[[1, 4, 6]].clone().requires_grad_()
    out = torch.empty(3, 3, dtype=torch.float64)
    torch.manual_seed(0)
    loss = model.loss(
        images, ids=torch.arange(3), exemplars=exemplars, exemplar_ids=torch.tensor([1, 4, 6]),
        searched=torch.full((3,), 8), means_out=out, kl_weight=0.7,
    )  # fmt: skip
    loss.backward()
    assert (exemplars.grad.flatten(1) != 0).any(1).all()
    assert not model.exemplar_means.requires_grad
    torch.testing.assert_close(out, model.encode_mean(x[[1, 4, 6]]).detach())
    # The loss, by hand.
    torch.manual_seed(0)
    posterior = model.encode(images)
    z = posterior.sample()
    log_prior = model.mixture_log_prob(
        z, torch.arange(3), out, torch.tensor([1, 4, 6]), torch.full((3,), 8)
    )
    log_p = model.likelihood.log_prob(model.decoder(z), images)
    torch.testing.assert_close(
        loss.detach(), -(log_p - 0.7 * (posterior.log_prob(z) - log_prior)).mean().detach()
    )


def test_exemplars_come_and_go_without_training() -> None:
    model, x = exemplar()
    z = torch.randn(4, 3, dtype=torch.float64)
    whole = model.prior_log_prob(z)
    new = torch.rand(2, 1, 4, 4, dtype=torch.float64).round()
    assert model.add_exemplars(new).tolist() == [9, 10]
    both, _ = exemplar()
    both.set_exemplars(torch.cat([x, new]))
    torch.testing.assert_close(model.prior_log_prob(z), both.prior_log_prob(z))
    model.remove_exemplars(torch.tensor([10, 9]))
    torch.testing.assert_close(model.prior_log_prob(z), whole)
    with pytest.raises(ValueError, match="ids must be of exemplars, got 10, which is of none"):
        model.remove_exemplars(torch.tensor([3, 10]))
    copy = ExemplarVAE((1, 4, 4), **SMALL).double()
    copy.load_state_dict(model.state_dict())  # of another number of exemplars
    torch.testing.assert_close(copy.prior_log_prob(z), whole)
    with pytest.raises(ValueError, match="no exemplars: call set_exemplars"):
        ExemplarVAE((1, 4, 4), **SMALL).sample(1)


def test_generated_images_are_around_their_exemplars() -> None:
    model, x = exemplar(log_var=-30.0)
    torch.testing.assert_close(model.generate(x), model.reconstruct(x), atol=1e-4, rtol=0)
    wide, _ = exemplar(log_var=2.0)
    assert (wide.generate(x) - wide.generate(x)).abs().max() > 1e-3


def test_the_importance_estimate_uses_the_whole_prior() -> None:
    """Against numerical integration over a code of one dimension."""
    torch.manual_seed(0)
    model = ExemplarVAE((1, 2, 2), latent_dim=1, hidden=4).double()
    with torch.no_grad():
        model.prior_log_variance.fill_(-1.0)
    x = torch.rand(5, 1, 2, 2, dtype=torch.float64).round()
    model.set_exemplars(x)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        log_prior, params = model.prior_log_prob(grid), model.decoder(grid)
        image = x[:1]
        joint = model.likelihood.log_prob(params, image) + log_prior
        exact = torch.logsumexp(joint, 0) + math.log(24 / 20_000)
        estimate = model.importance_estimate(image, 20_000)
    assert abs(estimate.log_prob - exact) < 4 * estimate.standard_error
    assert estimate.standard_error < 0.02


def test_errors() -> None:
    with pytest.raises(ValueError, match="components must be at least 1, got 0"):
        VampPriorVAE((1, 4, 4), components=0)
    for name in ("neighbours", "exemplars_per_step", "refresh_every"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
            ExemplarVAE((1, 4, 4), **{name: -1})
    with pytest.raises(ValueError, match="normaliser must be 'bound' or 'reference', got 'x'"):
        ExemplarVAE((1, 4, 4), normaliser="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="index must be 'flat', 'ivf' or 'torch', got 'x'"):
        ExemplarVAE((1, 4, 4), index="x")  # type: ignore[arg-type]
    model, x = exemplar()
    with pytest.raises(ValueError, match="exemplars: ids and exemplar_ids are needed"):
        model.loss(x, exemplars=x)
    with pytest.raises(ValueError, match=r"ids must be int64 of shape \(9,\)"):
        model.set_exemplars(x, torch.zeros(3))
