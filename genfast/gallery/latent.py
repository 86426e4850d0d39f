"""Exhibits of models with a code: reconstructions and samples of digits, bounds that are bounds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genfast.gallery.digits import COLUMNS, draw, held_out, train
from genfast.gallery.exhibit import Exhibit, Finding
from genfast.models import Autoencoder
from genfast.models.latent.base import LatentVariableModel
from genfast.training.images import to_unit
from genfast.training.trainer import Trainer

_IMAGES, _IMPORTANCE_SAMPLES = 100, 1000
_SETTINGS = {
    "binarise": "dynamic",
    "epochs": 40,
    "max_minutes": 1.0,
    "lr": 1e-3,
    "kl_warmup": 10,
    "optimizer": "adam-norm-grad",
}


# ---- the autoencoder -----------------------------------------------------------------------------


def _linear(images: Tensor, dim: int) -> Autoencoder:
    """The linear autoencoder at its minimum, in fp64."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        shape = images.shape[1], images.shape[2], images.shape[3]
        model = Autoencoder(shape, latent_dim=dim, layers=0).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=6000, max_eval=9000, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-11, tolerance_change=1e-15,
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = model.loss(images)
        loss.backward()
        return loss

    optimiser.step(closure)
    return model


def _autoencoder(folder: Path) -> Finding:
    dim = 4
    settings = {"model": {"name": "autoencoder", "latent_dim": dim, "hidden": 128}}
    trainer = train(folder, {**settings, "epochs": 60, "max_minutes": 0.7, "lr": 1e-3})
    model, test = trainer.evaluated.eval(), held_out(trainer, 500)
    images = to_unit(trainer.data.train.images, trainer.data.levels).double()
    linear = _linear(images, dim)
    flat = images.flatten(1)
    _, singular, directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    optimum = singular[dim:].square().sum() / len(flat)
    basis = torch.linalg.qr(dict(linear.named_parameters())["decoder.0.weight"].detach()).Q
    principal = directions[:dim].T
    angle = math.asin(torch.linalg.svdvals(basis - principal @ (principal.T @ basis)).max().item())
    with torch.no_grad():
        gap = (linear.loss(images) - optimum).item()
        errors = model.loss(test).item(), linear.loss(test.double()).item()
        shown = test[:COLUMNS]
        draw(folder, shown, model.reconstruct(shown), linear.reconstruct(shown.double()).float())
    return Finding(
        figure=f"{dim} numbers an image: squared error {errors[0]:.2f} on test digits, by PCA "
        f"{errors[1]:.2f}",
        check=f"the linear autoencoder spans the principal subspace: largest angle {angle:.0e} (below "
        f"1e-3), loss {gap:.0e} above the optimum (below 1e-5)",
        passed=angle < 1e-3 and abs(gap) < 1e-5 and errors[0] < errors[1],
        caption="Real test digits; reconstructions of the gated network; of its linear case, PCA.",
    )


# ---- models with a prior -------------------------------------------------------------------------


def _bounds(trainer: Trainer) -> tuple[float, float]:
    """ELBO and importance-sampled log-likelihood of test images, nats an image."""
    x = held_out(trainer, _IMAGES)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        elbo = trainer.evaluated.elbo(x.repeat(20, 1, 1, 1)).mean().item()
        estimate = trainer.evaluated.log_prob(x, importance_samples=_IMPORTANCE_SAMPLES).mean().item()
    return elbo, estimate


def _trained(folder: Path, model: dict[str, Any]) -> tuple[Trainer, str, bool]:
    """A run, its picture drawn -> the run, the figure, whether the ELBO is below the estimate."""
    trainer = train(folder, {**_SETTINGS, "model": {"latent_dim": 8, "hidden": 100, **model}})
    evaluated = trainer.evaluated.eval()
    shown = held_out(trainer)
    with torch.no_grad():
        draw(folder, shown, evaluated.reconstruct(shown), evaluated.sample(2 * COLUMNS, seed=1))
    elbo, estimate = _bounds(trainer)
    count = f"{_IMPORTANCE_SAMPLES:,}"
    figure = f"log-likelihood {estimate:.2f} nats an image by {count} samples, ELBO {elbo:.2f}"
    return trainer, figure, elbo < estimate


_CAPTION = "Real binarised test digits; reconstructions; two rows of samples."


def _vae(folder: Path) -> Finding:
    trainer, figure, bounded = _trained(folder, {"name": "vae"})
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model: LatentVariableModel = trainer.evaluated
        posterior = model.encode(held_out(trainer, _IMAGES))
        z = posterior.sample().double()
        exact = model.kl(posterior, z).double()
        draws = torch.stack([_ratio(model, posterior) for _ in range(2000)])
    error = (draws.mean(0) - exact).abs().max().item()
    allowed = 5 * (draws.std(0) / math.sqrt(len(draws))).max().item()
    return Finding(
        figure=figure,
        check=f"the closed-form KL, with its -1, is the mean of log q - log p within {error:.3f} nats "
        f"(Monte Carlo allows {allowed:.3f}); ELBO below the importance-sampled estimate",
        passed=bounded and error <= allowed,
        caption=_CAPTION,
    )


def _ratio(model: LatentVariableModel, posterior: Any) -> Tensor:
    z: Tensor = posterior.sample()
    ratio: Tensor = posterior.log_prob(z) - model.prior_log_prob(z)
    return ratio.double()


def _mixture_error(model: Any, means: Tensor, deviations: Tensor) -> float:
    """Largest difference of the prior from torch.distributions' mixture in fp64, nats."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        z = means[torch.randint(len(means), (200,))] + torch.randn(200, means.shape[1])
    oracle = MixtureSameFamily(
        Categorical(torch.ones(len(means), dtype=torch.float64)),
        Independent(Normal(means.double(), deviations.double().expand(means.shape)), 1),
    )
    with torch.no_grad():
        return float((model.prior_log_prob(z) - oracle.log_prob(z.double())).abs().max())


def _vamp_prior_vae(folder: Path) -> Finding:
    trainer, figure, bounded = _trained(folder, {"name": "vamp-prior-vae", "components": 200})
    model = trainer.evaluated
    with torch.no_grad():
        components = model.components()
    error = _mixture_error(model, components.mean, (0.5 * components.log_var).exp())
    return Finding(
        figure=figure,
        check=f"its prior is the mixture of torch.distributions in fp64 within {error:.0e} nats; ELBO "
        "below the importance-sampled estimate",
        passed=bounded and error < 1e-3,
        caption=_CAPTION,
    )


def _exemplar_vae(folder: Path) -> Finding:
    index = "flat" if importlib.util.find_spec("faiss") else "torch"
    settings = {"name": "exemplar-vae", "neighbours": 10, "index": index}
    trainer, figure, bounded = _trained(folder, settings)
    model = trainer.evaluated
    means, ids = model.exemplar_means, model.exemplar_ids
    error = _mixture_error(model, means, (0.5 * model.prior_log_variance).exp().detach())
    with torch.no_grad():
        z = means[:_IMAGES] + 0.1
        nearest = torch.cdist(z, means).topk(11, largest=False).indices.unique()
        bound = model.mixture_log_prob(
            z, ids[:_IMAGES], means[nearest], ids[nearest], torch.full((_IMAGES,), len(means) - 1)
        )
        slack = (model.prior_log_prob(z, ids[:_IMAGES]) - bound).min().item()
    return Finding(
        figure=figure,
        check=f"its prior is the mixture of torch.distributions in fp64 within {error:.0e} nats; the "
        f"sum over neighbours is below the whole one for every image (least gap {slack:.1e}); ELBO "
        "below the importance-sampled estimate",
        passed=bounded and error < 1e-3 and slack > -1e-5,
        caption=f"{_CAPTION} Neighbours by {'FAISS' if index == 'flat' else 'torch: no FAISS'}.",
    )


AUTOENCODER = Exhibit(
    "autoencoder", "Autoencoder, and PCA as its linear case", "Baldi, Hornik 1989", _autoencoder
)
VAE = Exhibit("vae", "Variational autoencoder", "Kingma, Welling 2014", _vae)
VAMP_PRIOR_VAE = Exhibit(
    "vamp-prior-vae", "VAE with a VampPrior", "Tomczak, Welling 2018", _vamp_prior_vae
)
EXEMPLAR_VAE = Exhibit(
    "exemplar-vae",
    "Exemplar VAE with its cache of neighbours",
    "Norouzi, Fleet, Norouzi 2020",
    _exemplar_vae,
)
