"""What every variational autoencoder shares: encoder, decoder, bounds, likelihood estimates, samples."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from genfast.models.latent import draws
from genfast.models.latent.densities import gaussian_log_prob
from genfast.models.latent.importance import Estimate, StreamingLogMean
from genfast.models.latent.likelihoods import make_likelihood
from genfast.models.latent.networks import (
    check_images,
    check_sizes,
    decoder,
    encoder_body,
    he_linear,
)

#: Bounds of the log-variance of q(z|x), as published (vae_vampprior, Exemplar VAE).
LOG_VAR_BOUNDS = (-6.0, 2.0)
#: Numbers that a part of the samples of `log_prob` takes in the widest layer: 32 MB in fp32.
_ELEMENTS_AT_ONCE = 2**23

#: Help texts of the settings that all these models have.
NETWORK_SETTINGS = {
    "latent_dim": "dimensions of the code",
    "network": "dense: gated dense layers; conv: gated convolutions",
    "hidden": "units of a gated dense layer",
    "layers": "gated dense layers of encoder and decoder each; 0 makes both linear (dense)",
    "channels": "feature maps of the convolutions at full size (conv)",
    "likelihood": "p(x|z); auto is bernoulli for two levels, else logistic",
}


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(log_var)), both (N, latent_dim)."""

    mean: Tensor
    log_var: Tensor

    def sample(self) -> Tensor:
        """mean + standard deviation * noise from torch's generator (reparameterised)."""
        return self.mean + (0.5 * self.log_var).exp() * torch.randn_like(self.mean)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x): (..., N), nats, for z (..., N, latent_dim)."""
        return gaussian_log_prob(z, self.mean, self.log_var)


class LatentVariableModel(nn.Module):
    """p(x) = integral of p(z) p(x|z) over codes z, with an encoder q(z|x) = N(mean(x), diag var(x)).

    A subclass defines its prior: `prior_log_prob` and `prior_sample`, and `kl` where it has a closed
    form. Images are floats (N,C,H,W) in [0, 1]; all log-probabilities are in nats, summed over pixels
    and dimensions, so that neither the batch nor the data set changes a figure.

    Args:
        image_shape: (C, H, W), each at least 1.
        levels: values a colour can take, k / (levels - 1): what the likelihood is discretised to.
        latent_dim: D, dimensions of the code.
        network: "dense", the published two gated layers of 300, or "conv".
        hidden, layers: of "dense"; `layers` of 0 makes encoder and decoder linear.
        channels: of "conv".
        likelihood: "bernoulli", "gaussian", "logistic"; "auto" is Bernoulli for two levels, else
            logistic.

    Raises:
        ValueError: an argument out of its range.
    """

    #: The constructor's arguments, so that `type(model)(**model.config)` builds the same architecture.
    config: dict[str, Any]
    #: Unit of `loss`, and of the figures that evaluation gives.
    unit: ClassVar[str] = "nats"
    #: Samples are means, which lie between the levels of the data: in so many levels they are shown.
    SHOWN_LEVELS: ClassVar[int] = 256
    #: The constructor's arguments that a training run may set, and what each of them is.
    SETTINGS: ClassVar[dict[str, str]] = NETWORK_SETTINGS
    num_classes = 0

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
    ) -> None:
        super().__init__()
        if network not in ("dense", "conv"):
            raise ValueError(f"network must be 'dense' or 'conv', got {network!r}")
        sizes = {"latent_dim": latent_dim, "hidden": hidden, "layers": layers, "channels": channels}
        self.image_shape = check_sizes(image_shape, **sizes)
        self.levels, self.latent_dim = levels, latent_dim
        self.config = {
            "image_shape": self.image_shape,
            "levels": levels,
            "network": network,
            **sizes,
            "likelihood": likelihood,
        }
        self.likelihood = make_likelihood(likelihood, self.image_shape[0], levels)
        self.encoder, width = encoder_body(self.image_shape, network, hidden, layers, channels)
        self.encoder_mean = he_linear(width, latent_dim)
        self.encoder_log_var = he_linear(width, latent_dim)
        self.decoder = decoder(
            latent_dim, self.image_shape, self.likelihood.outputs, network, hidden, layers, channels
        )
        #: Whether likelihoods are probabilities of levels, else densities.
        self.discrete = self.likelihood.discrete
        # The widest layer, of both networks: what bounds how many samples are decoded at once.
        self._width = max(
            hidden, self.likelihood.outputs * self.image_shape[1] * self.image_shape[2]
        ) * (channels if network == "conv" else 1)

    # -- the prior: what a subclass defines --------------------------------------------------------

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (N,), nats, for codes (N, latent_dim)."""
        raise NotImplementedError

    def prior_sample(self, n: int, *, seed: int = 0, start: int = 0) -> Tensor:
        """(n, latent_dim) from p(z); code i depends on the seed and start + i alone."""
        raise NotImplementedError

    def kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)), or its unbiased estimate log q(z|x) - log p(z) at a draw z: (N,), nats."""
        return posterior.log_prob(z) - self.prior_log_prob(z)

    # -- encoder and decoder -----------------------------------------------------------------------

    def encode(self, x: Tensor) -> Posterior:
        """q(z|x) of images (N,C,H,W)."""
        features = self.encoder(self._checked(x))
        return Posterior(
            self.encoder_mean(features), self.encoder_log_var(features).clamp(*LOG_VAR_BOUNDS)
        )

    def encode_mean(self, x: Tensor) -> Tensor:
        """The mean of q(z|x) alone: (N, latent_dim)."""
        mean: Tensor = self.encoder_mean(self.encoder(self._checked(x)))
        return mean

    def decode(self, z: Tensor) -> Tensor:
        """E[x|z]: (N,C,H,W)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] at the mean of q(z|x): (N,C,H,W)."""
        return self.decode(self.encode_mean(x))

    # -- bounds and likelihoods --------------------------------------------------------------------

    def elbo(self, x: Tensor, *, kl_weight: float = 1.0) -> Tensor:
        """A bound of log p(x), from one draw of z (torch's generator): (N,), nats.

        log p(x|z) - kl_weight * KL. It is a bound, in expectation, for a `kl_weight` of 1 (the default)
        or more.

        Args:
            x: (N,C,H,W) in [0, 1].
        """
        log_p, z, posterior = self._reconstruct_draw(x, self.encode(x))
        return log_p - kl_weight * self.kl(posterior, z)

    def loss(self, x: Tensor, labels: None = None, *, kl_weight: float = 1.0) -> Tensor:
        """The mean of -`elbo` over the images, 0-dim, nats."""
        return -self.elbo(x, kl_weight=kl_weight).mean()

    def validation_score(self, x: Tensor, labels: None = None) -> Tensor:
        """What training validates on: `elbo`."""
        return self.elbo(x)

    def log_prob(self, x: Tensor, labels: None = None, *, importance_samples: int = 100) -> Tensor:
        """The importance-sampled estimate of log p(x): (N,), nats, fp64. See `importance_estimate`."""
        return self.importance_estimate(x, importance_samples).log_prob

    def importance_estimate(self, x: Tensor, importance_samples: int) -> Estimate:
        """log of the mean of p(z) p(x|z) / q(z|x) over draws from q(z|x) (torch's generator).

        In expectation it is a lower bound of log p(x), no lower than the ELBO, and exact in the limit.
        Memory does not depend on the number of samples. The published number is 5,000.

        Args:
            x: (N,C,H,W) in [0, 1].
            importance_samples: S, at least 1.

        Returns:
            log_prob and standard_error, both (N,), nats, fp64; the error is NaN for a single sample.
        """
        if importance_samples < 1:
            raise ValueError(f"importance_samples must be at least 1, got {importance_samples}")
        self.likelihood.check(x)
        stream = StreamingLogMean(len(x), x.device)
        posterior = self.encode(x)
        x = x.to(posterior.mean.dtype)
        at_once = max(1, _ELEMENTS_AT_ONCE // max(1, self._width * len(x)))
        while stream.samples < importance_samples and len(x):
            count = min(at_once, importance_samples - stream.samples)
            many = Posterior(*(values.expand(count, *values.shape) for values in posterior))
            z = many.sample()
            log_weights = posterior.log_prob(z).neg_()
            flat = z.flatten(0, 1)
            log_weights += self.prior_log_prob(flat).view_as(log_weights)
            log_weights += self.likelihood.log_prob(self.decoder(flat), x).view_as(log_weights)
            stream.add(log_weights)
        if not len(x):
            return Estimate(x.new_zeros(0, dtype=torch.float64), x.new_zeros(0, dtype=torch.float64))
        return stream.estimate()

    # -- samples -----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, *, seed: int = 0, start: int = 0, pixel_noise: bool = False) -> Tensor:
        """Images (n,C,H,W) in [0, 1] from codes of the prior.

        Image i depends on (seed, start + i) alone. Without `pixel_noise` they are the means E[x|z], the
        pictures that publications show; with it, draws from p(x|z), which are distributed as the model
        says images are.

        Raises:
            ValueError: `n` or `start` is negative.
        """
        if n < 0 or start < 0:
            raise ValueError(f"n={n} and start={start} must be at least 0")
        params = self.decoder(self.prior_sample(n, seed=seed, start=start))
        if not pixel_noise:
            return self.likelihood.mean(params)
        numbers = self._numbers(n, start)
        uniforms = draws.pixel_uniforms(seed, numbers, self.image_shape, params.dtype)
        return self.likelihood.sample(params, uniforms)

    @torch.no_grad()
    def interpolate(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        """E[x|z] on the line between the mean codes of two images.

        Args:
            x, y: (N,C,H,W) in [0, 1].
            steps: points, both ends among them; at least 2.

        Returns:
            (steps, N, C, H, W).
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        ends = self.encode_mean(x), self.encode_mean(y)
        return torch.stack([self.decode(torch.lerp(*ends, t / (steps - 1))) for t in range(steps)])

    def _reconstruct_draw(self, x: Tensor, posterior: Posterior) -> tuple[Tensor, Tensor, Posterior]:
        """log p(x|z) at a draw z of the posterior, z, and the posterior, in fp32 at least."""
        self.likelihood.check(x)
        # Under autocast the networks are in 16 bits, what is summed over pixels is not.
        posterior = Posterior(*(_at_least_fp32(values) for values in posterior))
        z = posterior.sample()
        params = _at_least_fp32(self.decoder(z))
        return self.likelihood.log_prob(params, x.to(params.dtype)), z, posterior

    def _numbers(self, n: int, start: int) -> Tensor:
        device = next(self.parameters()).device
        return torch.arange(start, start + n, device=device)

    def _checked(self, x: Tensor) -> Tensor:
        return check_images(x, self.image_shape, self.encoder_mean.weight.dtype)


def _at_least_fp32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
