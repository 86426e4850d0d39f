"""The gradient penalty of WGAN-GP.

Source: Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), equation 3 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mixing: Tensor | None = None
) -> Tensor:
    """Mean of (|grad critic(x_hat)| - 1)^2 over x_hat = mixing real + (1 - mixing) fake, 0-dim.

    The norm is the Euclidean one of each sample's gradient, over all axes but the first. It can be
    differentiated with respect to the critic's weights. Computed without autocast.

    Args:
        critic: (N, ...) -> (N,), each value of its own sample alone (so without batch normalisation).
        real: (N, ...).
        fake: the same shape.
        mixing: (N,) in [0, 1]; drawn uniformly from torch's generator unless given.

    Raises:
        ValueError: shapes that do not fit.

    >>> x = torch.randn(6, 1, 4, 4)
    >>> steep = lambda x: 3 * x[:, 0, 0, 0]  # its gradient has norm 3
    >>> gradient_penalty(steep, x, torch.zeros_like(x)).item()
    4.0
    """
    if real.shape != fake.shape:
        raise ValueError(f"real and fake must have one shape, got {real.shape} and {fake.shape}")
    if mixing is None:
        mixing = torch.rand(len(real), device=real.device, dtype=real.dtype)
    if mixing.shape != (len(real),):
        raise ValueError(f"mixing must have shape ({len(real)},), got {tuple(mixing.shape)}")
    with torch.enable_grad(), torch.autocast(real.device.type, enabled=False):
        weight = mixing.view(-1, *[1] * (real.ndim - 1))
        between = (weight * real.detach() + (1 - weight) * fake.detach().to(real.dtype)).requires_grad_()
        values = critic(between)
        (gradient,) = torch.autograd.grad(values.sum(), between, create_graph=True)
        norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        penalty: Tensor = (norms - 1).square().mean()
    return penalty
