"""Draws of levels given uniforms."""

from __future__ import annotations

import torch
from torch import Tensor


def categorical(logits: Tensor, uniform: Tensor) -> Tensor:
    """The smallest level whose cumulative probability exceeds `uniform`.

    Args:
        logits: (..., L), not necessarily normalised.
        uniform: (...) in (0, 1).

    Returns:
        (...) int64 in [0, L).

    >>> import torch
    >>> from genfast.sampling import categorical
    >>> categorical(torch.tensor([0.0, 0.0]).log_softmax(0), torch.tensor(0.7)).item()
    1
    """
    weights = torch.exp(logits.float() - logits.float().amax(-1, keepdim=True))
    cumulative = weights.cumsum(-1)
    threshold = uniform[..., None] * cumulative[..., -1:]
    return (cumulative[..., :-1] <= threshold).sum(-1)
