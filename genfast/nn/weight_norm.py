"""Weight normalisation per output channel, and its initialisation from data.

Source: Salimans and Kingma, "Weight Normalization" (2016), equation 2 and section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genfast.ops import shifted_conv2d, shifted_conv_transpose2d
from genfast.ops.masked_conv import Shift


class WeightNorm(nn.Module):
    """A weight w = g v / |v| with one norm and one gain per output channel, and a bias.

    Parameters have the names of torch.nn.utils.weight_norm: `weight_v` (the direction), `weight_g` (the
    gain, of the same number of dimensions) and `bias`. They start as N(0, 0.05^2), 1 and 0.

    Args:
        shape: of the weight.
        out_dim: its dimension of output channels.
        init_scale: standard deviation that `initialised_from_data` gives the outputs.

    >>> import torch, genfast
    >>> weight = genfast.nn.WeightNorm((8, 3, 2, 2), out_dim=0, init_scale=1.0).weight
    >>> weight.square().sum((1, 2, 3)).allclose(torch.ones(8))
    True
    """

    def __init__(self, shape: tuple[int, ...], out_dim: int, init_scale: float) -> None:
        super().__init__()
        gains = [size if dim == out_dim else 1 for dim, size in enumerate(shape)]
        self.out_dim = out_dim
        self.init_scale = init_scale
        self.weight_v = nn.Parameter(torch.empty(shape).normal_(0, 0.05))
        self.weight_g = nn.Parameter(torch.ones(gains))
        self.bias = nn.Parameter(torch.zeros(shape[out_dim]))

    @property
    def weight(self) -> Tensor:
        """The weight that is used, in the layout of torch.nn's convolutions."""
        others = [dim for dim in range(self.weight_v.ndim) if dim != self.out_dim]
        norm: Tensor = torch.linalg.vector_norm(self.weight_v, dim=others, keepdim=True)
        return self.weight_v * (self.weight_g / norm.clamp(min=1e-6))


class WeightNormConv2d(WeightNorm):
    """`genfast.nn.ShiftedConv2d` with weight normalisation; 1x1 is a plain 1x1 convolution.

    Args:
        in_channels, out_channels: of the convolution.
        kernel_size: (height, width).
        shift, stride: see `genfast.ops.shifted_conv2d`.
        init_scale: see `WeightNorm`.

    >>> import torch, genfast
    >>> conv = genfast.nn.WeightNormConv2d(3, 8, (2, 3), shift="down", stride=2)
    >>> conv(torch.randn(1, 3, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    >>> conv.weight.square().sum((1, 2, 3)).allclose(torch.ones(8))
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        *,
        shift: Shift = "down",
        stride: int = 1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__((out_channels, in_channels, *kernel_size), 0, init_scale)
        self.shift = shift
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return shifted_conv2d(input, self.weight, self.bias, shift=self.shift, stride=self.stride)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight_v.shape)}, shift={self.shift!r}, stride={self.stride}"


class WeightNormConvTranspose2d(WeightNorm):
    """`genfast.nn.ShiftedConvTranspose2d` with weight normalisation.

    The weight is (in, out, height, width), so the norm is over dimensions 0, 2 and 3.

    Args:
        in_channels, out_channels, kernel_size, shift, stride, init_scale: as `WeightNormConv2d`.

    >>> import torch, genfast
    >>> conv = genfast.nn.WeightNormConvTranspose2d(8, 3, (2, 3), shift="down", stride=2)
    >>> conv(torch.randn(1, 8, 3, 3)).shape
    torch.Size([1, 3, 6, 6])
    >>> conv.weight.square().sum((0, 2, 3)).allclose(torch.ones(3))
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        *,
        shift: Shift,
        stride: int = 1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__((in_channels, out_channels, *kernel_size), 1, init_scale)
        self.shift = shift
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return shifted_conv_transpose2d(
            input, self.weight, self.bias, shift=self.shift, stride=self.stride
        )

    def extra_repr(self) -> str:
        return f"{tuple(self.weight_v.shape)}, shift={self.shift!r}, stride={self.stride}"


@contextmanager
def initialised_from_data(module: nn.Module) -> Iterator[None]:
    """Within it, each `WeightNorm` layer in `module` sets its gain and bias by the outputs it gives.

    Every output channel comes to mean 0 and standard deviation `init_scale` over batch and pixels, and
    later layers already see it so. Where a channel does not vary, 1e-10 in the variance keeps gain and
    bias finite. Run the module once.

    >>> import torch, genfast
    >>> conv = genfast.nn.WeightNormConv2d(3, 8, (2, 2), init_scale=0.1, shift="down_right")
    >>> x = torch.rand(16, 3, 8, 8)
    >>> with genfast.nn.initialised_from_data(conv):
    ...     y = conv(x)
    >>> conv(x).std((0, 2, 3)).allclose(torch.tensor(0.1), rtol=1e-2)
    True
    """
    hooks = [
        layer.register_forward_hook(_standardise)
        for layer in module.modules()
        if isinstance(layer, WeightNorm)
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _standardise(layer: WeightNorm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The layer's output as it is after its gain and bias were changed to standardise it."""
    variance, mean = torch.var_mean(output.to(layer.bias.dtype), (0, 2, 3), correction=0)
    scale = layer.init_scale * torch.rsqrt(variance + 1e-10)
    layer.weight_g.mul_(scale.view_as(layer.weight_g))
    layer.bias.sub_(mean).mul_(scale)
    standard = (output - mean[:, None, None]) * scale[:, None, None]
    return standard.to(output.dtype)
