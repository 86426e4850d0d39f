"""p(x|z): what the outputs of a decoder mean. Images are floats in [0, 1], likelihoods nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfast.ops import logistic_mixture_log_prob

#: The published clamp of Bernoulli means to [1e-5, 1 - 1e-5], in logits.
_MOST_LOGIT = math.log((1 - 1e-5) / 1e-5)
_LOG_TWO_PI = math.log(2 * math.pi)


class Likelihood(nn.Module, ABC):
    """The distribution of an image given its code, independent over pixels.

    `outputs` is how many maps the decoder gives, `discrete` whether the likelihood is a probability
    (else a density, which does not compare with one).
    """

    outputs: int
    discrete = True

    def check(self, x: Tensor) -> None:
        """Raises `ValueError` if `x` is not in the support (where looking costs nothing)."""

    @abstractmethod
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of images (N,C,H,W), summed over pixels and colours: (N,), nats.

        `params` (N or S*N, outputs, H, W); with S*N rows, row s*N + n is for image n, and so are the
        results.
        """

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """E[x|z], in [0, 1] but for a Gaussian: (N,C,H,W)."""

    @abstractmethod
    def sample(self, params: Tensor, uniforms: Tensor) -> Tensor:
        """A draw from uniforms (N,C,H,W) in (0, 1), by the inverse of the distribution function."""


class Bernoulli(Likelihood):
    """Pixels that are 0 or 1. Means are clamped to [1e-5, 1 - 1e-5], as published.

    Grey values are refused: their cross-entropy is no likelihood. Binarise them, or take another one.
    """

    def __init__(self, colours: int) -> None:
        super().__init__()
        self.outputs = colours

    def check(self, x: Tensor) -> None:
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and ((x != 0) & (x != 1)).any():
            raise ValueError(
                "x must hold 0 and 1 for a Bernoulli likelihood: binarise it, or build the model with "
                "likelihood='logistic' or 'gaussian'"
            )

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits = _by_sample(params.clamp(-_MOST_LOGIT, _MOST_LOGIT), x)
        # x l - softplus(l): two passes over the logits, of which importance sampling makes thousands.
        inner = torch.einsum("snd,nd->sn", logits, x.flatten(1))
        return (inner - F.softplus(logits).sum(2)).flatten()

    def mean(self, params: Tensor) -> Tensor:
        return params.clamp(-_MOST_LOGIT, _MOST_LOGIT).sigmoid()

    def sample(self, params: Tensor, uniforms: Tensor) -> Tensor:
        return (uniforms < self.mean(params)).to(params.dtype)


class Gaussian(Likelihood):
    """N(mean, sigma^2) with one learned variance for all pixels, as in probabilistic PCA.

    A density over [0, 1]-scaled values: it may exceed 1.

    Attributes:
        log_variance: 0-dim.
    """

    discrete = False

    def __init__(self, colours: int) -> None:
        super().__init__()
        self.outputs = colours
        self.log_variance = nn.Parameter(torch.zeros(()))

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        means = _by_sample(params, x)
        squares = (means - x.flatten(1)).square().sum(2)
        dims = means.shape[2]
        constant = dims * (_LOG_TWO_PI + self.log_variance)
        return (-0.5 * (squares * (-self.log_variance).exp() + constant)).flatten()

    def mean(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Tensor, uniforms: Tensor) -> Tensor:
        noise: Tensor = torch.special.ndtri(uniforms)
        return params + noise * (0.5 * self.log_variance).exp()


class Logistic(Likelihood):
    """A logistic distribution discretised to `levels` values, of its own mean and scale for each colour.

    Exact: the probabilities of a colour's levels sum to 1 (Kingma et al. 2016; the mass beyond the ends
    goes to the first and the last level). Colours of a pixel are independent given the code.
    """

    def __init__(self, colours: int, levels: int) -> None:
        super().__init__()
        self.colours, self.levels, self.outputs = colours, levels, 2 * colours

    def _mean_and_log_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """On the scale [-1, 1] of the levels. Both start near the middle, with a scale of half of it."""
        mean, log_scale = params.chunk(2, 1)
        return mean, (log_scale - 1).clamp(min=-7.0)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self._mean_and_log_scale(params)
        # As a mixture of one, a colour an image: (N*C, 3, H, W).
        each = torch.stack([torch.zeros_like(mean), mean, log_scale], 2).flatten(0, 1)
        target = (2 * x - 1).repeat(_samples(params, x), 1, 1, 1).flatten(0, 1)[:, None]
        log_p = logistic_mixture_log_prob(each, target.to(each.dtype), levels=self.levels)
        return log_p.reshape(len(params), params.shape[1:].numel() // 2).sum(1)

    def mean(self, params: Tensor) -> Tensor:
        """That of the continuous distribution, clamped to [0, 1]."""
        return ((self._mean_and_log_scale(params)[0] + 1) / 2).clamp(0, 1)

    def sample(self, params: Tensor, uniforms: Tensor) -> Tensor:
        mean, log_scale = self._mean_and_log_scale(params)
        value = (mean + log_scale.exp() * (uniforms.log() - (-uniforms).log1p()) + 1) / 2
        most = self.levels - 1
        return (value.clamp(0, 1) * most).round() / most


def _samples(params: Tensor, x: Tensor) -> int:
    return len(params) // max(1, len(x))


def _by_sample(params: Tensor, x: Tensor) -> Tensor:
    """(S*N, ...) -> (S, N, values of an image)."""
    return params.reshape(_samples(params, x), len(x), params.shape[1:].numel())


def make_likelihood(name: str, colours: int, levels: int) -> Likelihood:
    """The likelihood of that name; "auto" is Bernoulli for two levels, else logistic.

    Raises `ValueError` naming what does not fit.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    if name == "auto":
        name = "bernoulli" if levels == 2 else "logistic"
    if name == "bernoulli" and levels != 2:
        raise ValueError(
            f"likelihood 'bernoulli' needs images of 2 levels, got {levels}: binarise them, or take "
            "'logistic' or 'gaussian'"
        )
    if name == "bernoulli":
        return Bernoulli(colours)
    if name == "gaussian":
        return Gaussian(colours)
    if name == "logistic":
        return Logistic(colours, levels)
    raise ValueError(f"likelihood must be 'auto', 'bernoulli', 'gaussian' or 'logistic', got {name!r}")
