"""The VAE with a variational mixture of posteriors as its prior.

Source: Tomczak and Welling, "VAE with a VampPrior" (2018), section 3, and its reference code.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.latent import draws
from genfast.models.latent.base import NETWORK_SETTINGS, LatentVariableModel, Posterior
from genfast.ops import gaussian_mixture_log_prob


class VampPriorVAE(LatentVariableModel):
    """p(z) = 1/K sum_k q(z|u_k): the mean of the posteriors of K learned pseudo-inputs.

    Pseudo-inputs are `pseudo_inputs` clamped to [0, 1], and begin as N(0.05, 0.01^2) as in the reference
    code. The KL term is estimated at the drawn z.

    Args:
        components: K.

    Other arguments as in `LatentVariableModel`.

    >>> import torch, genfast
    >>> model = genfast.models.VampPriorVAE((1, 8, 8), latent_dim=4, hidden=16, components=7)
    >>> model.elbo(torch.rand(5, 1, 8, 8).round()).shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([3, 1, 8, 8]))
    """

    SETTINGS: ClassVar[dict[str, str]] = {**NETWORK_SETTINGS, "components": "pseudo-inputs of the prior"}

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
        components: int = 500,
    ) -> None:
        super().__init__(image_shape, levels, latent_dim, network, hidden, layers, channels, likelihood)
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        self.config["components"] = components
        self.pseudo_inputs = nn.Parameter(torch.empty(components, *self.image_shape))
        nn.init.normal_(self.pseudo_inputs, 0.05, 0.01)

    def components(self) -> Posterior:
        """q(z|u_k) of all pseudo-inputs: (K, latent_dim) each."""
        return self.encode(self.pseudo_inputs.clamp(0, 1))

    def prior_log_prob(self, z: Tensor) -> Tensor:
        mean, log_var = self.components()
        return gaussian_mixture_log_prob(z, mean.to(z.dtype), log_var.to(z.dtype))

    def prior_sample(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        mean, log_var = self.components()
        numbers = self._numbers(n, start)
        chosen = draws.choices(seed, numbers, len(mean))
        noise = draws.code_noise(seed, numbers, self.latent_dim, mean.dtype)
        return mean[chosen] + (0.5 * log_var[chosen]).exp() * noise
