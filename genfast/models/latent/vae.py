"""The variational autoencoder.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2014).
"""

from __future__ import annotations

from torch import Tensor

from genfast.models.latent import draws
from genfast.models.latent.base import LatentVariableModel, Posterior
from genfast.models.latent.densities import standard_normal_log_prob
from genfast.ops import gaussian_kl


class VAE(LatentVariableModel):
    """A variational autoencoder with the prior N(0, I); its KL term is the closed form.

    Arguments as in `LatentVariableModel`. With `layers=0` and the Gaussian likelihood it is
    probabilistic PCA with an amortised posterior.

    >>> import torch, genfast
    >>> model = genfast.models.VAE((1, 8, 8), latent_dim=4, hidden=16)
    >>> x = torch.rand(5, 1, 8, 8).round()
    >>> model.elbo(x).shape, model.log_prob(x, importance_samples=50).shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([5]), torch.Size([3, 1, 8, 8]))
    """

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(z)

    def prior_sample(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        dtype = self.encoder_mean.weight.dtype
        return draws.code_noise(seed, self._numbers(n, start), self.latent_dim, dtype)

    def kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        return gaussian_kl(posterior.mean, posterior.log_var)
