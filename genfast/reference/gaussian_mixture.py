"""The KL divergence of Gaussians and the log-density of a Gaussian mixture in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_kl(
    mean: Tensor,
    log_var: Tensor,
    prior_mean: Tensor | None = None,
    prior_log_var: Tensor | None = None,
) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var))) in nats, summed over the last dim.

    The prior is the standard normal distribution where it is not given.

    >>> import torch, genfast
    >>> genfast.reference.gaussian_kl(torch.ones(2, 4), torch.zeros(2, 4))
    tensor([2., 2.])
    """
    squares = (mean if prior_mean is None else mean - prior_mean).square()
    if prior_log_var is not None:
        squares, log_var = squares * torch.exp(-prior_log_var), log_var - prior_log_var
    return 0.5 * (torch.expm1(log_var) - log_var + squares).sum(-1)


def gaussian_mixture_log_prob(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    *,
    log_weights: Tensor | None = None,
    query_ids: Tensor | None = None,
    component_ids: Tensor | None = None,
    precision: str = "fp32",
) -> Tensor:
    """log sum_n w_n N(z_b; means_n, diag exp(log_var)) in nats, (B,), through a B x N matrix.

    Args:
        z: (B, D).
        means: (N, D).
        log_var: scalar, (D,) or (N, D).
        log_weights: (N,), used as they are; 1 / (N - left out) where not given.
        query_ids: (B,) integers. A component whose id equals the query's is left out.
        component_ids: (N,) integers.
        precision: of products on CUDA, for `genfast.ops`; here it is that of the arguments.

    >>> import torch, genfast
    >>> z, means = torch.zeros(1, 2), torch.zeros(3, 2)
    >>> genfast.reference.gaussian_mixture_log_prob(z, means, torch.zeros(()))
    tensor([-1.8379])
    """
    (components, dim), center = means.shape, _center(means)
    z, means = z - center, means - center
    scores = _exponents(z, means, log_var) - 0.5 * dim * math.log(2 * math.pi)
    left = scores.new_full((len(z),), components)
    if query_ids is not None and component_ids is not None:
        same = query_ids[:, None] == component_ids
        left = left - same.sum(1)
        scores = scores.masked_fill(same, -math.inf)
    if log_weights is not None:
        scores = scores + log_weights
    else:
        scores = scores - torch.log(left.clamp(min=1))[:, None]
    # With nothing to sum, torch.logsumexp has NaN for a gradient.
    nothing = (scores == -math.inf).all(1)
    total = torch.logsumexp(scores.masked_fill(nothing[:, None], 0), 1)
    return total.masked_fill(nothing, -math.inf)


def _center(means: Tensor) -> Tensor:
    """Of the components: distances are the same from any point, and round least from here."""
    return means.detach().sum(0) / max(len(means), 1)


def _exponents(z: Tensor, means: Tensor, log_var: Tensor) -> Tensor:
    """-1/2 sum_d ((z_bd - means_nd)^2 / var_nd + log var_nd), (B, N), from products of matrices."""
    if log_var.ndim == 2:
        inverse = torch.exp(-log_var)
        squares = z.square() @ inverse.T - 2 * z @ (means * inverse).T
        return -0.5 * (squares + (means.square() * inverse + log_var).sum(1))
    inverse_scale = torch.exp(-0.5 * log_var)
    z, means = z * inverse_scale, means * inverse_scale
    squares = z.square().sum(1, keepdim=True) - 2 * z @ means.T + means.square().sum(1)
    return -0.5 * (squares + log_var.expand(z.shape[1]).sum())
