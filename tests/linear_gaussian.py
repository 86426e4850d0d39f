"""Models that are linear and Gaussian, whose likelihoods and posteriors have closed forms."""

from __future__ import annotations

import torch
from torch import Tensor

from genfast.models import VAE


def linear_gaussian_vae(latent: int = 3, *, seed: int = 0, tilt: float = 0.1) -> VAE:
    """A VAE with affine networks in fp64; its encoder is the exact posterior, moved by `tilt`.

    The decoder's columns are orthogonal, so that the exact posterior is diagonal as q is.
    """
    generator = torch.Generator().manual_seed(seed)
    model = VAE((1, 3, 4), latent_dim=latent, layers=0, likelihood="gaussian").double()
    basis = torch.linalg.qr(torch.randn(12, latent, dtype=torch.float64, generator=generator)).Q
    weight = basis * torch.linspace(1.5, 0.6, latent, dtype=torch.float64)
    mean = torch.randn(12, dtype=torch.float64, generator=generator)
    variance = 0.3
    posterior_variance = variance / (weight.square().sum(0) + variance)
    with torch.no_grad():
        decoder = model.decoder[0]
        decoder.weight.copy_(weight)
        decoder.bias.copy_(mean)
        model.likelihood.log_variance.fill_(torch.tensor(variance).log())
        model.encoder_mean.weight.copy_(weight.T * posterior_variance[:, None] / variance * (1 - tilt))
        model.encoder_mean.bias.copy_(-model.encoder_mean.weight @ mean + tilt)
        model.encoder_log_var.weight.zero_()
        model.encoder_log_var.bias.copy_(posterior_variance.log() + tilt)
    return model


def exact_marginal(model: VAE) -> torch.distributions.MultivariateNormal:
    """The distribution of flat images: N(b, W W^T + sigma^2 I)."""
    weight, bias = model.decoder[0].weight.detach(), model.decoder[0].bias.detach()
    variance = model.likelihood.log_variance.detach().exp()
    covariance = weight @ weight.T + variance * torch.eye(len(bias), dtype=torch.float64)
    return torch.distributions.MultivariateNormal(bias, covariance)


def exact_posterior(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (N, D) and covariance (D, D) of p(z|x)."""
    weight, bias = model.decoder[0].weight.detach(), model.decoder[0].bias.detach()
    variance = model.likelihood.log_variance.detach().exp()
    inverse = torch.linalg.inv(weight.T @ weight + variance * torch.eye(weight.shape[1]).double())
    return (x.flatten(1) - bias) @ weight @ inverse, inverse * variance
