"""The causal convolutions: their cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones
from torch import Tensor

import genfast


def small_weight(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Keeps a convolution's output of order one, where a gate behind it is not saturated."""
    return 0.3 * torch.randn(shape, **options)


@st.composite
def _masked(draw: st.DrawFn, gated: bool = False) -> Case:
    splits = 2 if gated else draw(st.sampled_from([1, 2, 4]))
    colors = draw(st.integers(1, 3))
    n, height, width = draw(st.integers(0, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    channels_in = draw(st.integers(colors, 5))
    channels_out = splits * draw(st.integers(colors, 5))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 1), (5, 3), (3, 5), (7, 7)]))
    keywords = {"mask_type": draw(st.sampled_from("AB")), "colors": colors}
    shapes: list[tuple[int, ...] | None] = [(n, channels_in, height, width)]
    shapes.append((channels_out, channels_in, *kernel))
    shapes.append((channels_out,) if draw(st.booleans()) else None)
    if gated:
        y = (n, channels_out, height, width)
        shapes.append(draw(st.sampled_from([None, y, (1, channels_out, 1, 1), (width,)])))
    else:
        keywords["out_splits"] = splits
    return Case("drawn", tuple(shapes), keywords)


def _dead_taps(out_splits: int | None = None) -> Callable[[Case], Mapping[str, Tensor]]:
    def ignored(case: Case) -> Mapping[str, Tensor]:
        options = {"out_splits": out_splits} if out_splits else {}
        mask = genfast.reference.causal_mask(case.shapes[1], **case.keywords, **options)
        return {"weight": ~mask}

    return ignored


def here(value: Any) -> Any:
    """Ones made on the CPU, on the default device: where the tests of a GPU want them."""
    on_cpu = isinstance(value, Tensor) and value.device.type == "cpu"
    return ones(*value.shape, dtype=value.dtype) if on_cpu else value


def _conv_bad(**keywords: Any) -> tuple[Bad, ...]:
    """What every convolution refuses; with `keywords` the call would be right but for what is given."""

    def bad(name: str, error: type[Exception], *says: str, **given: Any) -> Bad:
        tensors = {"x": ones(1, 2, 5, 5), "weight": ones(2, 2, 3, 3), "bias": ones(2)}
        tensors.update({k: v for k, v in given.items() if k in tensors})
        changed = {**keywords, **{k: v for k, v in given.items() if k not in tensors}}
        return Bad(name, lambda op: op(*map(here, tensors.values()), **changed), error, says)

    double = ones(2, 2, 3, 3, dtype=torch.float64)
    return (
        bad("x_type", TypeError, "x must be", "str", x="image"),
        bad("x_integer", TypeError, "x ", "torch.int32", x=ones(1, 2, 5, 5, dtype=torch.int32)),
        bad("x_ndim", ValueError, "x must have 4", "(2, 5, 5)", x=ones(2, 5, 5)),
        bad("x_channels", ValueError, "weight", "(1, 3, 5, 5)", "2 input channels", x=ones(1, 3, 5, 5)),
        bad("weight_type", TypeError, "weight must be", "NoneType", weight=None),
        bad("weight_ndim", ValueError, "weight must have 4", "(2, 2, 3)", weight=ones(2, 2, 3)),
        bad("weight_dtype", TypeError, "weight", "float64", "float32", weight=double),
        bad("weight_device", ValueError, "weight", "meta", "cpu", weight=ones(2, 2, 3, 3).to("meta")),
        bad("bias_type", TypeError, "bias must be", "bool", bias=True),
        bad("bias_shape", ValueError, "bias", "(3,)", "(2,)", bias=ones(3)),
        bad("bias_ndim", ValueError, "bias", "(2, 1)", bias=ones(2, 1)),
        bad("bias_dtype", TypeError, "bias", "float16", "float32", bias=ones(2, dtype=torch.float16)),
    )


def _masked_bad(with_splits: bool) -> tuple[Bad, ...]:
    def bad(
        name: str,
        weight: tuple[int, ...],
        *says: str,
        error: type[Exception] = ValueError,
        **keywords: Any,
    ) -> Bad:
        def call(op: Callable[..., Any]) -> Any:
            return op(ones(1, weight[1], 5, 5), ones(*weight), **{"mask_type": "B", **keywords})

        return Bad(name, call, error, says)

    two_parts = {"out_splits": 2} if with_splits else {}
    found = (
        bad("kernel_even", (2, 2, 3, 4), "weight", "odd", "3x4"),
        bad("mask_type", (2, 2, 3, 3), "mask_type", "'C'", "'A'", mask_type="C"),
        bad("colors_type", (2, 2, 3, 3), "colors", "1.5", error=TypeError, colors=1.5),
        bad("colors_zero", (2, 2, 3, 3), "colors=0", colors=0),
        bad("colors_over_inputs", (6, 2, 3, 3), "colors=3", "2 inputs", colors=3),
        bad("colors_over_outputs", (4, 3, 3, 3), "colors=3", "2 outputs", colors=3, **two_parts),
    )
    if not with_splits:  # the two halves are fixed
        return (*found, bad("odd_outputs", (3, 2, 3, 3), "3 output channels", "out_splits=2"))
    return (
        *found,
        bad("out_splits_type", (2, 2, 3, 3), "out_splits", "'2'", error=TypeError, out_splits="2"),
        bad("out_splits_zero", (2, 2, 3, 3), "out_splits=0", out_splits=0),
        bad("out_splits_odd", (6, 2, 3, 3), "6 output channels", "out_splits=4", out_splits=4),
    )


def _conv_arguments(x, weight, bias=None, *, mask_type, colors=1, out_splits=1):
    return x, weight, bias, mask_type, colors, out_splits


def _bwd_input_arguments(x, weight, bias=None, *, mask_type, colors=1, out_splits=1):
    grad = x.new_ones(x.shape[0], weight.shape[0], *x.shape[2:])
    return grad, weight, mask_type, colors, out_splits


def _bwd_weight_arguments(x, weight, bias=None, *, mask_type, colors=1, out_splits=1):
    grad = x.new_ones(x.shape[0], weight.shape[0], *x.shape[2:])
    return grad, x, list(weight.shape[2:]), mask_type, colors, out_splits


def _gated_arguments(x, weight, bias=None, cond=None, *, mask_type, colors=1):
    return x, weight, bias, cond, mask_type, colors


MASKED = OpSpec(
    name="masked_conv2d",
    cuda_only=(
        Registered("masked_conv2d", _conv_arguments),
        Registered("masked_conv2d_bwd_input", _bwd_input_arguments),
        Registered("masked_conv2d_bwd_weight", _bwd_weight_arguments),
    ),
    arguments=("x", "weight", "bias"),
    cases=(
        Case("A", ((2, 2, 3, 4), (3, 2, 3, 3), (3,)), {"mask_type": "A"}),
        Case("B_no_bias", ((1, 2, 4, 3), (2, 2, 3, 5), None), {"mask_type": "B"}),
        Case("A_rgb", ((1, 4, 3, 3), (5, 4, 3, 3), (5,)), {"mask_type": "A", "colors": 3}),
        Case(
            "B_rgb_gates", ((1, 3, 3, 3), (8, 3, 3, 3), (8,)),
            {"mask_type": "B", "colors": 3, "out_splits": 2},
        ),
        Case("B_1x1_rgb", ((2, 4, 2, 2), (4, 4, 1, 1), (4,)), {"mask_type": "B", "colors": 3}),
        Case("row_A", ((2, 2, 2, 4), (2, 2, 1, 3), (2,)), {"mask_type": "A"}),
    ),
    large=Case(
        "large", ((2, 7, 17, 19), (16, 7, 5, 5), (16,)), {"mask_type": "B", "colors": 3, "out_splits": 2}
    ),
    vector=Case(
        "vector", ((2, 24, 9, 11), (48, 24, 3, 3), (48,)),
        {"mask_type": "A", "colors": 3, "out_splits": 2},
    ),
    draw=_masked(),
    bad=_conv_bad(mask_type="A") + _masked_bad(with_splits=True),
    claims=COMMON | {"double backward"},
    empty=Case("empty", ((0, 2, 3, 3), (2, 2, 3, 3), (2,)), {"mask_type": "A"}),
    autocast="lower",
    fill={"weight": small_weight},
    ignored=_dead_taps(),
)  # fmt: skip

GATED_MASKED = OpSpec(
    name="gated_masked_conv2d",
    cuda_only=(Registered("gated_masked_conv2d", _gated_arguments),),
    arguments=("x", "weight", "bias", "cond"),
    cases=(
        Case("A", ((2, 2, 3, 4), (4, 2, 3, 3), (4,), None), {"mask_type": "A"}),
        Case("B_class", ((2, 2, 3, 3), (4, 2, 3, 3), (4,), (2, 4, 1, 1)), {"mask_type": "B"}),
        Case(
            "B_rgb_map",
            ((1, 3, 3, 3), (8, 3, 3, 3), None, (1, 8, 3, 3)),
            {"mask_type": "B", "colors": 3},
        ),
    ),
    large=Case(
        "large", ((2, 7, 41, 31), (28, 7, 3, 3), (28,), (2, 28, 1, 1)), {"mask_type": "B", "colors": 3}
    ),
    vector=Case("vector", ((2, 16, 13, 11), (80, 16, 3, 3), (80,), (2, 80, 13, 11)), {"mask_type": "B"}),
    draw=_masked(gated=True),
    bad=(
        *_conv_bad(mask_type="A"),
        *_masked_bad(with_splits=False),
        Bad(
            "cond_shape",
            lambda op: op(ones(1, 2, 5, 5), ones(2, 2, 3, 3), None, ones(3, 1, 1), mask_type="A"),
            ValueError,
            ("cond ", "(3, 1, 1)", "(1, 2, 5, 5)"),
        ),
        Bad(
            "cond_type",
            lambda op: op(ones(1, 2, 5, 5), ones(2, 2, 3, 3), None, 1, mask_type="A"),
            TypeError,
            ("cond must be", "int"),
        ),
    ),
    claims=COMMON | {"double backward", "ISA levels"},
    empty=Case("empty", ((0, 2, 3, 3), (4, 2, 3, 3), (4,), (1, 4, 1, 1)), {"mask_type": "B"}),
    autocast="lower",
    fill={"weight": small_weight},
    ignored=_dead_taps(out_splits=2),
)


# ---- shifted_conv2d, shifted_conv_transpose2d ----------------------------------------------------


@st.composite
def _shifted(draw: st.DrawFn, transposed: bool = False) -> Case:
    shift = draw(st.sampled_from(["down", "down_right"]))
    kernel = (
        draw(st.integers(1, 4)),
        draw(st.sampled_from([1, 3, 5] if shift == "down" else [1, 2, 3])),
    )
    channels_in, channels_out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    channels = (channels_in, channels_out) if transposed else (channels_out, channels_in)
    x = (draw(st.integers(0, 2)), channels_in, draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    bias = (channels_out,) if draw(st.booleans()) else None
    return Case(
        "drawn", (x, (*channels, *kernel), bias), {"shift": shift, "stride": draw(st.integers(1, 3))}
    )


def _shift_bad() -> tuple[Bad, ...]:
    def bad(
        name: str, width: int, *says: str, error: type[Exception] = ValueError, **keywords: Any
    ) -> Bad:
        def call(op: Callable[..., Any]) -> Any:
            return op(ones(1, 2, 5, 5), ones(2, 2, 2, width), **{"shift": "down", **keywords})

        return Bad(name, call, error, says)

    return (
        bad("width_even", 4, "shift='down'", "odd", "(2, 2, 2, 4)"),
        bad("shift", 3, "shift", "'up'", "'down_right'", shift="up"),
        bad("stride_type", 3, "stride", "(2, 2)", error=TypeError, stride=(2, 2)),
        bad("stride_float", 3, "stride", "1.5", error=TypeError, stride=1.5),
        bad("stride_zero", 3, "stride", "0", stride=0),
        bad("stride_negative", 3, "stride", "-2", stride=-2),
    )


def _plain_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shift: str, stride: int = 1
) -> Tensor:
    """The whole canvas of torch's transposed convolution, cut out as its definition says."""
    canvas = F.conv_transpose2d(x, weight, bias, stride=stride, output_padding=stride - 1)
    left = weight.shape[3] // 2 if shift == "down" else 0
    return canvas[:, :, : stride * x.shape[2], left : left + stride * x.shape[3]]


def _shift_spec(name: str, transposed: bool) -> OpSpec:
    weight = (2, 3, 2, 3) if transposed else (3, 2, 2, 3)
    odd = (2, 3, 3, 2) if transposed else (3, 2, 3, 2)
    channels = (5, 8) if transposed else (8, 5)
    return OpSpec(
        name=name,
        arguments=("x", "weight", "bias"),
        cases=(
            Case("down", ((2, 2, 3, 4), weight, (3,)), {"shift": "down"}),
            Case("down_by_2", ((1, 2, 3, 5), weight, None), {"shift": "down", "stride": 2}),
            Case("down_right", ((1, 2, 3, 3), odd, (3,)), {"shift": "down_right"}),
            Case("down_right_by_2", ((2, 2, 3, 3), odd, (3,)), {"shift": "down_right", "stride": 2}),
        ),
        large=Case("large", ((2, 5, 17, 19), (*channels, 2, 3), (8,)), {"shift": "down", "stride": 2}),
        draw=_shifted(transposed=transposed),
        bad=_conv_bad(shift="down") + _shift_bad(),
        claims=COMMON | {"double backward"},
        empty=Case("empty", ((0, 2, 3, 3), weight, (3,)), {"shift": "down"}),
        autocast="lower",
        fill={"weight": small_weight},
        plain=_plain_transpose if transposed else None,
    )


SPECS = (
    MASKED,
    GATED_MASKED,
    _shift_spec("shifted_conv2d", transposed=False),
    _shift_spec("shifted_conv_transpose2d", transposed=True),
)
