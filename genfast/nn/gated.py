"""The gate as a module."""

from __future__ import annotations

from torch import Tensor, nn

from genfast.ops import gated_activation


class GatedActivation(nn.Module):
    """tanh of one half times sigmoid of the other; see `genfast.ops.gated_activation`.

    Args:
        dim: the dimension that is split.

    >>> import torch, genfast
    >>> genfast.nn.GatedActivation()(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 4, 4, 4])
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        return gated_activation(x, cond, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
