"""The Exemplar VAE: a mixture around the training images as its prior.

Source: Norouzi, Fleet and Norouzi, "Exemplar VAE: Linking Generative Models, Nearest Neighbor Retrieval,
and Data Augmentation" (2020), and its reference code.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.latent import draws
from genfast.models.latent.base import NETWORK_SETTINGS, LatentVariableModel
from genfast.ops import gaussian_mixture_log_prob

#: Images encoded at a time, where all exemplars are.
ENCODED_AT_ONCE = 10_000


class ExemplarVAE(LatentVariableModel):
    """p(z) = 1/N sum_n r(z|x_n) over N exemplars, r(z|x) = N(mean(x), sigma^2 I).

    The mean network is that of q(z|x); sigma^2 is one learned number. The loss of a training image
    leaves out its own component (else the prior would be free to copy it), and re-encodes, with
    gradients, either a random sample of the exemplars or, retrieval-augmented, those that a search among
    cached means finds nearest to the images of the step.

    `exemplar_means` (N, latent_dim) and `exemplar_ids` (N,) are what the prior is made of in evaluation
    and sampling; `set_exemplars` makes them from images.

    Args:
        neighbours: k, nearest exemplars of each image whose union a step re-encodes; 0 re-encodes all
            of its exemplars.
        exemplars_per_step: exemplars that a step may use, drawn at random; 0 stands for all.
        normaliser: "bound" divides the sum over the union by the number of exemplars searched, a lower
            bound of the mixture over all those; "reference" by the size of the union, as the published
            code does, which is no bound and on MNIST nats too high.
        refresh_every: steps between encodings of the whole cache; 0 refreshes it each epoch.
        index: how neighbours are found: "flat" (FAISS, exact), "ivf" (FAISS, inverted lists: for large
            sets, approximate), "torch" (brute force, no FAISS).

    Other arguments as in `LatentVariableModel`.

    >>> import torch, genfast
    >>> model = genfast.models.ExemplarVAE((1, 8, 8), latent_dim=4, hidden=16)
    >>> x = torch.rand(5, 1, 8, 8).round()
    >>> model.set_exemplars(x)
    >>> model.elbo(x).shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([3, 1, 8, 8]))
    """

    SETTINGS: ClassVar[dict[str, str]] = {
        **NETWORK_SETTINGS,
        "neighbours": "nearest exemplars of an image, re-encoded by its step; 0: all of the step",
        "exemplars_per_step": "exemplars that a step may use, drawn at random; 0: all training images",
        "normaliser": "bound: by the exemplars searched; reference: by those found (published)",
        "refresh_every": "steps between full refreshes of the cache; 0: each epoch",
        "index": "flat: FAISS, exact; ivf: FAISS, approximate, for large sets; torch: brute force",
    }
    exemplar_means: Tensor
    exemplar_ids: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int = 2,
        latent_dim: int = 40,
        network: Literal["dense", "conv"] = "dense",
        hidden: int = 300,
        layers: int = 2,
        channels: int = 32,
        likelihood: Literal["auto", "bernoulli", "gaussian", "logistic"] = "auto",
        neighbours: int = 10,
        exemplars_per_step: int = 0,
        normaliser: Literal["bound", "reference"] = "bound",
        refresh_every: int = 0,
        index: Literal["flat", "ivf", "torch"] = "flat",
    ) -> None:
        super().__init__(image_shape, levels, latent_dim, network, hidden, layers, channels, likelihood)
        counts = {
            "neighbours": neighbours,
            "exemplars_per_step": exemplars_per_step,
            "refresh_every": refresh_every,
        }
        for name, value in counts.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if normaliser not in ("bound", "reference"):
            raise ValueError(f"normaliser must be 'bound' or 'reference', got {normaliser!r}")
        if index not in ("flat", "ivf", "torch"):
            raise ValueError(f"index must be 'flat', 'ivf' or 'torch', got {index!r}")
        self.config.update(counts, normaliser=normaliser, index=index)
        self.neighbours, self.exemplars_per_step = neighbours, exemplars_per_step
        self.normaliser, self.refresh_every, self.index = normaliser, refresh_every, index
        self.prior_log_variance = nn.Parameter(torch.randn(()))
        self.register_buffer("exemplar_means", torch.zeros(0, latent_dim))
        self.register_buffer("exemplar_ids", torch.zeros(0, dtype=torch.int64))

    # -- the exemplars -----------------------------------------------------------------------------

    def set_exemplars(self, x: Tensor, ids: Tensor | None = None) -> None:
        """Make the prior of these images alone.

        Args:
            x: (N,C,H,W) in [0, 1].
            ids: (N,) int64 names, unless 0, 1, ..., N - 1. Images that are the same may share one.
        """
        self.exemplar_means = self.encode_all(x)
        chosen = torch.arange(len(x)) if ids is None else _checked_ids(ids, len(x))
        self.exemplar_ids = chosen.to(self.exemplar_means.device)

    def add_exemplars(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Add images to the prior, without training -> their ids (N,).

        Args:
            x: (N,C,H,W) in [0, 1].
            ids: (N,) int64; else numbers above all that there are.
        """
        first = int(self.exemplar_ids.max()) + 1 if len(self.exemplar_ids) else 0
        new = torch.arange(first, first + len(x)) if ids is None else _checked_ids(ids, len(x))
        new = new.to(self.exemplar_ids.device)
        self.exemplar_means = torch.cat([self.exemplar_means, self.encode_all(x)])
        self.exemplar_ids = torch.cat([self.exemplar_ids, new])
        return new

    def remove_exemplars(self, ids: Tensor) -> None:
        """Take all exemplars with these ids out of the prior. Raises `ValueError` for an unknown id."""
        ids = ids.to(self.exemplar_ids.device)
        missing = ids[~torch.isin(ids, self.exemplar_ids)]
        if len(missing):
            raise ValueError(f"ids must be of exemplars, got {int(missing[0])}, which is of none")
        kept = ~torch.isin(self.exemplar_ids, ids)
        self.exemplar_means, self.exemplar_ids = self.exemplar_means[kept], self.exemplar_ids[kept]

    @torch.no_grad()
    def encode_all(self, x: Tensor) -> Tensor:
        """The means of any number of images (N,C,H,W), in parts, without gradients: (N, latent_dim)."""
        device = self.encoder_mean.weight.device
        parts = [self.encode_mean(part.to(device)) for part in x.split(ENCODED_AT_ONCE)]
        return torch.cat(parts) if parts else self.encoder_mean.weight.new_zeros(0, self.latent_dim)

    # -- the prior ---------------------------------------------------------------------------------

    def prior_log_prob(self, z: Tensor, ids: Tensor | None = None) -> Tensor:
        """log p(z) under all exemplars: (N,), nats; exact, no gradient to their means.

        Args:
            z: (N, latent_dim).
            ids: (N,); exemplars of a code's id are left out of its mixture, which then has fewer.
        """
        self._check_exemplars()
        return gaussian_mixture_log_prob(
            z,
            self.exemplar_means.to(z.dtype),
            self.prior_log_variance.to(z.dtype),
            query_ids=ids,
            component_ids=None if ids is None else self.exemplar_ids,
        )

    def prior_sample(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        self._check_exemplars()
        numbers = self._numbers(n, start)
        chosen = draws.choices(seed, numbers, len(self.exemplar_means))
        noise = draws.code_noise(seed, numbers, self.latent_dim, self.exemplar_means.dtype)
        return self.exemplar_means[chosen] + (0.5 * self.prior_log_variance).exp() * noise

    def mixture_log_prob(
        self,
        z: Tensor,
        ids: Tensor,
        means: Tensor,
        mean_ids: Tensor,
        searched: Tensor | None = None,
    ) -> Tensor:
        """log p(z) under some exemplars, an image's own left out: (N,), nats.

        Args:
            z: (N, latent_dim), the codes of the images with these `ids` (N,).
            means: (M, latent_dim), of the exemplars with the ids `mean_ids` (M,).
            searched: (N,), how many exemplars, the image's own left out, the M were chosen among. The
                sum over the chosen is divided by that number, and so is a lower bound of the mixture
                over all of them; None divides it by those of the M that are not left out.

        An image that none is left for has -inf, with zero gradients.
        """
        log_prob = gaussian_mixture_log_prob(
            z,
            means.to(z.dtype),
            self.prior_log_variance.to(z.dtype),
            query_ids=ids,
            component_ids=mean_ids,
        )
        if searched is None:
            return log_prob
        kept = (ids[:, None] != mean_ids).sum(1).clamp(min=1)
        return log_prob + kept.to(z.dtype).log() - searched.to(z.dtype).log()

    # -- training ----------------------------------------------------------------------------------

    def loss(
        self,
        x: Tensor,
        labels: None = None,
        *,
        kl_weight: float = 1.0,
        ids: Tensor | None = None,
        exemplars: Tensor | None = None,
        exemplar_ids: Tensor | None = None,
        searched: Tensor | None = None,
        means_out: Tensor | None = None,
    ) -> Tensor:
        """The mean of -ELBO over the images, 0-dim, nats.

        With `exemplars`, which are encoded with gradients, under the mixture of these; else under the
        prior that is set.

        Args:
            x: (N,C,H,W) in [0, 1].
            ids: (N,), of the images: components with the same id are left out.
            exemplars, exemplar_ids: (M,C,H,W) and (M,).
            searched: (N,), see `mixture_log_prob`.
            means_out: (M, latent_dim), where the means of the exemplars are written to, for a cache.
        """
        if exemplars is None:
            return super().loss(x, labels, kl_weight=kl_weight)
        if ids is None or exemplar_ids is None:
            raise ValueError("exemplars: ids and exemplar_ids are needed with them")
        posterior = self.encode(x)
        means = self.encode_mean(exemplars)
        if means_out is not None:
            means_out.copy_(means.detach())
        log_p, z, posterior = self._reconstruct_draw(x, posterior)
        log_prior = self.mixture_log_prob(z, ids, means, exemplar_ids, searched)
        return -(log_p - kl_weight * (posterior.log_prob(z) - log_prior)).mean()

    # -- what exemplars are good for ---------------------------------------------------------------

    @torch.no_grad()
    def generate(self, x: Tensor) -> Tensor:
        """A new image for each of these: E[x|z] at a draw of r(z|x) (torch's generator): (N,C,H,W).

        Labels carry over: this is the published augmentation of a classifier's training images, and with
        an image repeated, sampling from a chosen exemplar.
        """
        mean = self.encode_mean(x)
        return self.decode(mean + (0.5 * self.prior_log_variance).exp() * torch.randn_like(mean))

    def _check_exemplars(self) -> None:
        if not len(self.exemplar_means):
            raise ValueError("the model has no exemplars: call set_exemplars with images first")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The buffers take the number of exemplars that is loaded."""
        for name in ("exemplar_means", "exemplar_ids"):
            loaded = state_dict.get(prefix + name)
            if loaded is not None and loaded.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, getattr(self, name).new_empty(loaded.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _checked_ids(ids: Tensor, count: int) -> Tensor:
    if ids.dtype != torch.int64 or tuple(ids.shape) != (count,):
        raise ValueError(f"ids must be int64 of shape ({count},), got {ids.dtype} {tuple(ids.shape)}")
    return ids
