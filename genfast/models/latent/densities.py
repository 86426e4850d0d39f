"""Log-densities of codes: (N, D) -> (N,), nats, in fp32 at least."""

from __future__ import annotations

import math

from torch import Tensor

_LOG_TWO_PI = math.log(2 * math.pi)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I)."""
    return -0.5 * (z.square() + _LOG_TWO_PI).sum(-1)


def gaussian_log_prob(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, diag exp(log_var)); only the squared distance is divided by the variance."""
    return -0.5 * ((z - mean).square() * (-log_var).exp() + log_var + _LOG_TWO_PI).sum(-1)
