"""Convolutions that multiply their weight by a mask, whatever the mask.

Ports write `self.weight.data *= self.mask` or convolve with `self.weight * self.mask`, in a class
derived from nn.Conv2d or around one. The twin computes on the smallest rectangle of the kernel that
holds all live taps, never writes to the weight, and gives dead taps zero gradient. The masks of
`genfast.ops.masked_conv2d` go through that function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.ops import masked_conv2d
from genfast.ops.live_taps import live_taps
from genfast.swapping.recognition import Candidate, Change, LeftAlone, has_hooks, overrides_forward
from genfast.swapping.twin import Twin

_ZERO_GRADIENT = "dead taps get zero gradient and keep what they hold"


@dataclass(frozen=True)
class MaskedPlan:
    """How a masked convolution is computed.

    Attributes:
        conv: name of the submodule that holds the weight, "" if it is the module itself.
        mask: name of the attribute that holds the mask.
        ours: mask_type, colors and out_splits if `genfast.ops.masked_conv2d` has this mask.
        rows, columns: first and last + 1 live ones of the kernel.
        dense: whether all taps within these are live.
        pad: left, right, top, bottom, of the cropped kernel; negative crops the image.
    """

    conv: str
    mask: str
    ours: tuple[Any, int, int] | None
    rows: tuple[int, int]
    columns: tuple[int, int]
    dense: bool
    pad: tuple[int, int, int, int]


class MaskedConvTwin(Twin):
    """A masked convolution on the live part of its kernel."""

    def forward(self, x: Tensor) -> Tensor:
        plan: MaskedPlan = self.genfast_plan
        conv: Any = getattr(self, plan.conv) if plan.conv else self
        if plan.ours and x.ndim == 4:
            mask_type, colors, out_splits = plan.ours
            return masked_conv2d(
                x, conv.weight, conv.bias, mask_type=mask_type, colors=colors, out_splits=out_splits
            )
        part = (..., slice(*plan.rows), slice(*plan.columns))
        weight = conv.weight[part]
        if not plan.dense:
            weight = weight * getattr(self, plan.mask)[part].to(weight)
        return padded_conv2d(x, weight, conv.bias, plan.pad, conv)

    def ignored_taps(self) -> dict[str, Tensor]:
        plan: MaskedPlan = self.genfast_plan
        conv: Any = getattr(self, plan.conv) if plan.conv else self
        name = f"{plan.conv}.weight" if plan.conv else "weight"
        return {name: (getattr(self, plan.mask) == 0).expand_as(conv.weight)}

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)  # type: ignore[misc]
        plan: MaskedPlan = self.genfast_plan  # the mask may be another one now
        conv: Any = getattr(self, plan.conv) if plan.conv else self
        self.genfast_plan = _planned(conv, getattr(self, plan.mask), plan.conv, plan.mask)


def padded_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: tuple[int, int, int, int], conv: nn.Conv2d
) -> Tensor:
    """Convolution with a padding for each side; what is symmetric the convolution itself pads."""
    left, right, top, bottom = pad
    rows = top if top == bottom >= 0 else 0
    columns = left if left == right >= 0 else 0
    rest = (left - columns, right - columns, top - rows, bottom - rows)
    if any(rest):
        x = F.pad(x, rest)
    return F.conv2d(x, weight, bias, conv.stride, (rows, columns), conv.dilation, conv.groups)


def masked_convolution(module: nn.Module) -> Iterator[Candidate]:
    """The pattern; see the head of this file."""
    for conv_name, conv in [("", module), *module.named_children()]:
        if isinstance(conv, nn.Conv2d) and (conv is not module or overrides_forward(module, nn.Conv2d)):
            yield from _masked(module, conv_name, conv)


def _masked(module: nn.Module, conv_name: str, conv: nn.Conv2d) -> Iterator[Candidate]:
    for mask_name, mask in _masks(module, conv.weight):
        _check(module, conv, conv_name, mask)
        plan = _planned(conv, mask, conv_name, mask_name)
        change = Change("", MaskedConvTwin, plan)
        yield Candidate(_described(plan, conv), (change,), (conv.in_channels,), _note(conv, mask, plan))


def _masks(module: nn.Module, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Tensors of zeros and ones of the kernel's size; attributes that are no buffers count too."""
    attributes = {**module._buffers, **module.__dict__}
    for name, tensor in attributes.items():
        if isinstance(tensor, Tensor) and tensor.ndim == 4 and tensor.shape[2:] == weight.shape[2:]:
            sizes = zip(tensor.shape[:2], weight.shape[:2], strict=True)
            if all(s in (1, w) for s, w in sizes) and ((tensor == 0) | (tensor == 1)).all():
                yield name, tensor


def _check(module: nn.Module, conv: nn.Conv2d, conv_name: str, mask: Tensor) -> None:
    height, width = conv.kernel_size
    if conv.padding_mode != "zeros":
        raise LeftAlone(f"its padding_mode is {conv.padding_mode!r}, not 'zeros'")
    if conv_name and (has_hooks(conv) or overrides_forward(conv, nn.Conv2d)):
        raise LeftAlone(f"its {conv_name} has hooks or a forward of its own, which would not run")
    if not mask.any():
        raise LeftAlone("its mask has no live tap")
    if height % 2 and width % 2:
        row, column = height // 2, width // 2
        right = mask[:, :, row, column + 1 :]
        # A vertical stack may see all of its own row, for the link to the horizontal one shifts it.
        whole_row = height > 1 and bool(mask[:, :, row].all())
        if mask[:, :, row + 1 :].any() or (right.any() and not whole_row):
            raise LeftAlone("its mask has live taps after the centre: it is not causal")


def _planned(conv: nn.Conv2d, mask: Tensor, conv_name: str, mask_name: str) -> MaskedPlan:
    alive = (mask != 0).any(0).any(0)
    rows, columns = _extent(alive.any(1)), _extent(alive.any(0))
    height, width = conv.kernel_size
    vertical, horizontal = _paddings(conv)
    down, across = conv.dilation
    pad = (
        horizontal[0] - across * columns[0],
        horizontal[1] - across * (width - columns[1]),
        vertical[0] - down * rows[0],
        vertical[1] - down * (height - rows[1]),
    )
    dense = bool((mask[..., slice(*rows), slice(*columns)] != 0).all())
    return MaskedPlan(conv_name, mask_name, _ours(conv, mask), rows, columns, dense, pad)


def _extent(alive: Tensor) -> tuple[int, int]:
    """First and last + 1 True; all of them if there is none, as a kernel must not be empty."""
    where = alive.nonzero().flatten().tolist()
    return (where[0], where[-1] + 1) if where else (0, len(alive))


def _paddings(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, bottom) and (left, right) of the dense convolution."""
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(conv.padding, str):
        totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)  # type: ignore[return-value]
    return tuple((p, p) for p in conv.padding)  # type: ignore[return-value]


def _ours(conv: nn.Conv2d, mask: Tensor) -> tuple[Any, int, int] | None:
    """The arguments of `genfast.ops.masked_conv2d` that have this mask, if any."""
    height, width = conv.kernel_size
    same = ((height // 2, height // 2), (width // 2, width // 2))
    if not (height % 2 and width % 2 and _paddings(conv) == same):
        return None
    if conv.groups > 1 or any(n > 1 for n in (*conv.stride, *conv.dilation)):
        return None
    full = (mask != 0).expand_as(conv.weight)
    ones = torch.ones_like(full, dtype=torch.float32)
    most = min(4, conv.in_channels)  # images have no more colours
    for colors in range(1, most + 1):
        for out_splits in (1, 2, 4) if colors > 1 else (1,):
            if conv.out_channels % out_splits or colors > conv.out_channels // out_splits:
                continue
            for mask_type in ("B", "A"):
                live = live_taps(ones, mask_type, colors, out_splits) != 0
                rest = (0, width - live.shape[3], 0, height - live.shape[2])
                if torch.equal(F.pad(live, rest), full):
                    return mask_type, colors, out_splits
    return None


def _described(plan: MaskedPlan, conv: nn.Conv2d) -> str:
    if plan.ours:
        mask_type, colors, out_splits = plan.ours
        more = f", colors={colors}, out_splits={out_splits}" if colors > 1 else ""
        return f"masked_conv2d, mask {mask_type}{more}"
    (first, last), (left, right) = plan.rows, plan.columns
    height, width = conv.kernel_size
    return f"convolution on its mask's {last - first}x{right - left} of {height}x{width} taps"


def _note(conv: nn.Conv2d, mask: Tensor, plan: MaskedPlan) -> str:
    note = _ZERO_GRADIENT if (mask == 0).any() else ""
    if plan.ours or not (conv.kernel_size[0] % 2 and conv.kernel_size[1] % 2):
        return note
    centre = mask.expand_as(conv.weight)[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] != 0
    half = conv.out_channels // 2
    for n in (2, 3, 4):
        o = torch.arange(conv.out_channels, device=mask.device)[:, None] % n
        i = torch.arange(centre.shape[1], device=mask.device) % n
        if torch.equal(centre, i <= o) or torch.equal(centre, i < o):
            note += f"; colour = channel % {n}"
            if conv.out_channels % 2 == 0 and half % n:
                note += (
                    f", so the halves of its {conv.out_channels} outputs differ in colour: it is kept, "
                    f"but not causal if a gate splits them"
                )
            break
    return note.removeprefix("; ")
