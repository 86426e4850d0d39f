"""exemplar_cache: a training step of the Exemplar VAE, retrieval-augmented, against plain PyTorch.

All sides take the same step: encode 100 images, search the 10 nearest of each among the cached means
without itself, encode the union of them with gradients, decode a draw, and differentiate the ELBO under
the mixture of the union by every weight. They differ in how they search and compute the mixture.
The side "all re-encoded" is timed at what the cache is there to avoid: encoding half of the exemplars in
every step, as under the published exact prior.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from genfast import reference
from genfast.benchmarks.cases import Case, Inputs, Side
from genfast.models import ExemplarVAE
from genfast.models.latent import ExemplarCache
from genfast.models.latent.base import Posterior
from genfast.ops import gaussian_mixture_log_prob

STEP = "training step"  # loss and gradients of every weight; no optimiser, which is the same for all
BATCH, NEIGHBOURS, SHAPE = 100, 10, (1, 28, 28)
Mixture = Callable[..., Tensor]
Search = Callable[[Tensor, Tensor], Tensor]  # queries and their ids -> the union of neighbours


@dataclass(frozen=True)
class Stored:
    """The exemplars of a side: its model, all images as bytes and their cached means."""

    model: ExemplarVAE
    images: Tensor
    means: Tensor


def loss_and_gradients(
    stored: Stored,
    mixture: Mixture,
    search: Callable[[Tensor, Tensor], Tensor],
    ids: Tensor,
    noise: Tensor,
) -> Tensor:
    """-ELBO of the images `ids`, then its gradients by every weight, in one vector."""
    model, dtype = stored.model, noise.dtype
    x = stored.images[ids].to(dtype)
    posterior: Posterior = model.encode(x)
    union = search(posterior.mean.detach(), ids)
    means = model.encode_mean(stored.images[union].to(dtype))
    z = posterior.mean + (0.5 * posterior.log_var).exp() * noise
    log_prior = mixture(z, means, model.prior_log_variance, query_ids=ids, component_ids=union)
    log_p = model.likelihood.log_prob(model.decoder(z), x)
    loss = -(log_p - posterior.log_prob(z) + log_prior).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([loss.detach().reshape(1), *(gradient.flatten() for gradient in gradients)])


def brute_force(means: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
    """The union of the nearest rows of `means`, through a matrix of queries x exemplars."""
    distances = means.square().sum(1) - 2 * queries.to(means.dtype) @ means.T
    distances[torch.arange(len(ids), device=ids.device), ids] = torch.inf
    return distances.topk(NEIGHBOURS, 1, largest=False).indices.unique()


def cached(cache: ExemplarCache, queries: Tensor, ids: Tensor) -> Tensor:
    """The same from the cache of the training step, where the images' own means are updated first."""
    cache.update(ids, queries, 0)
    return cache.search(queries, NEIGHBOURS, exclude=ids).unique()


def every_other(count: int, queries: Tensor, ids: Tensor) -> Tensor:
    return torch.arange(0, count, 2, device=ids.device)


def exemplar_cache(device: str, quick: bool) -> Iterator[Case]:
    count = 5_000 if quick else 50_000
    torch.manual_seed(0)
    model = ExemplarVAE(SHAPE).to(device)
    with torch.no_grad():
        model.prior_log_variance.fill_(-1.0)
    # Some hundred kinds of images, as digits are: noise alone would have no neighbours.
    kinds = torch.rand(200, *SHAPE)
    images = torch.bernoulli(kinds[torch.randint(200, (count,))]).to(device, torch.uint8)
    parts = [model.encode_all(part.float()) for part in images.split(10_000)]
    stored = Stored(model, images, torch.cat(parts))
    exact = Stored(copy.deepcopy(model).double(), images, stored.means.double())
    # Without FAISS, which no extra for benchmarks has, by brute force as the other sides.
    index, found = ("flat", "FAISS") if importlib.util.find_spec("faiss") else ("torch", "no FAISS")
    cache = ExemplarCache(count, model.latent_dim, index, torch.device(device))
    cache.refresh(stored.means, 0)

    def inputs(generator: torch.Generator) -> Inputs:
        ids = torch.randperm(count, generator=generator)[:BATCH]
        return ids.to(device), torch.randn(BATCH, model.latent_dim, generator=generator).to(device)

    def side(stored: Stored, mixture: Mixture, search: Search) -> Side:
        return Side(partial(loss_and_gradients, stored, mixture, search))

    eager = side(stored, reference.gaussian_mixture_log_prob, partial(brute_force, stored.means))
    all_re_encoded = partial(
        loss_and_gradients, stored, reference.gaussian_mixture_log_prob, partial(every_other, count)
    )
    yield Case(
        op="exemplar_cache",
        variant=f"VAE 2x300, {count} exemplars, {NEIGHBOURS} neighbours, {found}",
        dtype=torch.float32,
        shape=(BATCH, *SHAPE),
        inputs=inputs,
        sides={
            "eager": eager,
            "all re-encoded": Side(eager.fn, timed=all_re_encoded),
            "genfast": side(stored, gaussian_mixture_log_prob, partial(cached, cache)),
        },
        reference=side(exact, reference.gaussian_mixture_log_prob, partial(brute_force, exact.means)),
        directions=(STEP,),
        compile=False,
        slack_ulps=8.0,  # of the largest gradient, where orders of sums differ
        headline=True,
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"exemplar_cache": exemplar_cache}
