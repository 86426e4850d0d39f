"""The shifted convolutions of PixelCNN++ ports, and their 1x1 convolution written as a linear map.

Ports derive a class from nn.Conv2d (or nn.ConvTranspose2d) that pads or crops in `forward`, or put one,
mostly with weight norm, in a module next to an nn.ZeroPad2d. In the second case the inner modules
become twins and are called as before, so that the hooks of weight norm run, and so does whatever else
the outer module does with the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from genfast.ops import shifted_conv2d, shifted_conv_transpose2d
from genfast.swapping.recognition import Candidate, Change, overrides_forward
from genfast.swapping.twin import Twin


class ShiftedConvTwin(Twin):
    """A convolution that pads as `genfast.ops.shifted_conv2d`; the plan is the shift."""

    def forward(self, x: Tensor) -> Tensor:
        conv: Any = self
        return shifted_conv2d(x, conv.weight, conv.bias, shift=self.genfast_plan, stride=conv.stride[0])


class ShiftedConvTransposeTwin(Twin):
    """A transposed convolution, cropped as `genfast.ops.shifted_conv_transpose2d`."""

    def forward(self, x: Tensor) -> Tensor:
        conv: Any = self
        return shifted_conv_transpose2d(
            x, conv.weight, conv.bias, shift=self.genfast_plan, stride=conv.stride[0]
        )


class NothingTwin(Twin):
    """A padding that the next module does."""

    genfast_counts = False

    def forward(self, x: Tensor) -> Tensor:
        return x


class ChannelLinearTwin(Twin):
    """A linear map of the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        linear: Any = self
        return F.conv2d(x, linear.weight[:, :, None, None], linear.bias)


class OnlyChildTwin(Twin):
    """A module that only calls its child, whose name is the plan."""

    genfast_counts = False

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.genfast_plan)(x)  # type: ignore[no-any-return]


def shifted_convolution(module: nn.Module) -> Iterator[Candidate]:
    """A class derived from nn.Conv2d, or a module with an nn.ZeroPad2d and an nn.Conv2d."""
    conv: Any
    if overrides_forward(module, nn.Conv2d):
        conv = module
        for shift in _shifts(conv):
            change = Change("", ShiftedConvTwin, shift)
            yield Candidate(f"shifted_conv2d, {shift}", (change,), (conv.in_channels,))
        return
    convs = _children(module, nn.Conv2d)
    pads = _children(module, nn.ZeroPad2d)
    if len(convs) == len(pads) == 1 and not overrides_forward(convs[0][1], nn.Conv2d):
        (name, conv), (pad_name, _) = convs[0], pads[0]
        for shift in _shifts(conv):
            changes = (Change(name, ShiftedConvTwin, shift), Change(pad_name, NothingTwin))
            yield Candidate(f"shifted_conv2d, {shift}", changes, (conv.in_channels,))


def shifted_transposed_convolution(module: nn.Module) -> Iterator[Candidate]:
    """A class derived from nn.ConvTranspose2d, or a module with one and nothing else."""
    conv: Any
    if overrides_forward(module, nn.ConvTranspose2d):
        conv = module
        for shift in _shifts(conv):
            change = Change("", ShiftedConvTransposeTwin, shift)
            yield Candidate(f"shifted_conv_transpose2d, {shift}", (change,), (conv.in_channels,))
        return
    children = list(module.named_children())
    if len(children) == 1 and isinstance(children[0][1], nn.ConvTranspose2d):
        name, conv = children[0]
        for shift in _shifts(conv):
            changes = (Change(name, ShiftedConvTransposeTwin, shift), Change("", OnlyChildTwin, name))
            yield Candidate(f"shifted_conv_transpose2d, {shift}", changes, (conv.in_channels,))


def channel_linear(module: nn.Module) -> Iterator[Candidate]:
    """A module around one nn.Linear that is applied to the channels of every pixel."""
    linears = _children(module, nn.Linear)
    if len(linears) == 1 == len(module._modules):
        name, linear = linears[0]
        if not overrides_forward(linear, nn.Linear) and not isinstance(module, nn.Sequential):
            changes = (Change(name, ChannelLinearTwin), Change("", OnlyChildTwin, name))
            yield Candidate("1x1 convolution", changes, (linear.in_features,))


def _children(module: nn.Module, kind: type[nn.Module]) -> list[tuple[str, Any]]:
    return [(name, child) for name, child in module.named_children() if isinstance(child, kind)]


def _shifts(conv: Any) -> list[str]:
    """The shifts that the kernel may have; none where neither function can compute it."""
    if conv.groups > 1 or conv.dilation != (1, 1) or conv.stride[0] != conv.stride[1]:
        return []
    if conv.padding_mode != "zeros" or conv.padding != (0, 0):
        return []
    return ["down", "down_right"] if conv.kernel_size[1] % 2 else ["down_right"]
