"""logistic_mixture_log_prob and logistic_mixture_sample: their cases."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones
from torch import Tensor


def random_levels(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Levels of 8 bits, scaled to [-1, 1]; a fifth of them the first or the last."""
    x = 1.25 * (2 * torch.rand(shape, **options) - 1)
    return (torch.round((x.clamp(-1, 1) + 1) * 127.5) / 127.5) - 1


def gentle_params(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Scales near that of the data: sharper ones make second derivatives lose digits, in PyTorch too."""
    return 0.5 * torch.randn(shape, **options)


def inner_uniforms(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Uniform numbers that are not rounded to 0 or 1 in 16 bits."""
    return 0.01 + 0.98 * torch.rand(shape, **options)


def _drawn(draw: st.DrawFn, extra: int, keywords: dict[str, Any]) -> Case:
    colors = draw(st.sampled_from([1, 3]))
    mixtures = draw(st.integers(1, 4))
    batch, height, width = draw(st.integers(0, 3)), draw(st.integers(0, 6)), draw(st.integers(0, 20))
    channels = mixtures * (3 if colors == 1 else 10)
    params, image = (batch, channels, height, width), (batch, colors + extra, height, width)
    return Case("drawn", (params, image), keywords)


@st.composite
def _log_prob(draw: st.DrawFn) -> Case:
    levels = draw(st.sampled_from([2, 16, 256]))
    return _drawn(draw, 0, {"levels": levels, "mode": draw(st.sampled_from(["exact", "reference"]))})


@st.composite
def _sample(draw: st.DrawFn) -> Case:
    levels = draw(st.sampled_from([2, 16, 256]))
    return _drawn(draw, 1, {"levels": levels, "quantize": draw(st.booleans())})


def _bad(second: str, grey: int, colour: int) -> tuple[Bad, ...]:
    """What both ops refuse: `second` is their other tensor, with so many channels."""
    p, x = ones(2, 10, 3, 3), ones(2, colour, 3, 3)
    return (
        Bad("params_type", lambda op: op([1.0], x), TypeError, ("params must be", "list")),
        Bad("params_integer", lambda op: op(p.long(), x), TypeError, ("params ", "torch.int64")),
        Bad("params_dims", lambda op: op(p[0], x), ValueError, ("params ", "4 dim", "(10, 3, 3)")),
        Bad("params_channels", lambda op: op(ones(2, 12, 3, 3), x), ValueError, ("params ", "10K")),
        Bad("params_none", lambda op: op(ones(2, 0, 3, 3), x), ValueError, ("params ", "(2, 0, 3, 3)")),
        Bad(
            "params_grey", lambda op: op(p, ones(2, grey, 3, 3)),
            ValueError, ("params ", "3K", "(2, 10, 3, 3)"),
        ),
        Bad(f"{second}_type", lambda op: op(p, 1.0), TypeError, (f"{second} must be", "float")),
        Bad(
            f"{second}_channels", lambda op: op(p, ones(2, 5, 3, 3)),
            ValueError, (f"{second} ", "channels", "(2, 5, 3, 3)"),
        ),
        Bad(
            f"{second}_batch", lambda op: op(p, ones(3, colour, 3, 3)),
            ValueError, (f"{second} ", f"(3, {colour}, 3, 3)", "(2, 10, 3, 3)"),
        ),
        Bad(
            f"{second}_size", lambda op: op(p, ones(2, colour, 3, 4)),
            ValueError, (f"{second} ", f"(2, {colour}, 3, 4)", "(2, 10, 3, 3)"),
        ),
        Bad(f"{second}_dims", lambda op: op(p, x[0]), ValueError, (f"{second} ", "4 dimensions")),
        Bad(
            f"{second}_dtype", lambda op: op(p, x.double()),
            TypeError, (f"{second} ", "torch.float64", "torch.float32"),
        ),
        Bad(
            f"{second}_device", lambda op: op(p, x.to("meta")),
            ValueError, (f"{second} ", "meta", "cpu"),
        ),
        Bad("levels_one", lambda op: op(p, x, levels=1), ValueError, ("levels ", "2", "got 1")),
        Bad("levels_many", lambda op: op(p, x, levels=70000), ValueError, ("levels ", "65536", "70000")),
        Bad("levels_float", lambda op: op(p, x, levels=256.0), TypeError, ("levels ", "256.0")),
    )  # fmt: skip


def _with_gradient(op: Any) -> Any:
    return op(ones(2, 10, 3, 3), ones(2, 3, 3, 3).requires_grad_())


def _arithmetic(x: Tensor) -> Tensor:
    """As the registered ops want all but params."""
    return x if x.dtype == torch.float64 else x.float()


def _evidence(x: Tensor) -> Tensor:
    return _arithmetic(torch.ones_like(x[:, :1]).expand(-1, 3, -1, -1))


LOG_PROB = OpSpec(
    name="logistic_mixture_log_prob",
    arguments=("params", "x"),
    cases=(
        Case("colour", ((2, 20, 2, 3), (2, 3, 2, 3)), {"levels": 32}),
        Case("grey", ((2, 6, 3, 2), (2, 1, 3, 2))),
        Case("published", ((2, 20, 2, 3), (2, 3, 2, 3)), {"levels": 32, "mode": "reference"}),
        Case("published_grey", ((2, 9, 3, 2), (2, 1, 3, 2)), {"mode": "reference"}),
        Case("two_levels", ((1, 30, 2, 2), (1, 3, 2, 2)), {"levels": 2}),
        Case("one_component", ((2, 10, 1, 3), (2, 3, 1, 3))),
    ),
    large=Case("large", ((3, 50, 31, 37), (3, 3, 31, 37))),
    draw=_log_prob(),
    bad=(
        *_bad("x", grey=1, colour=3),
        Bad(
            "mode", lambda op: op(ones(2, 10, 3, 3), ones(2, 3, 3, 3), mode="fast"),
            ValueError, ("mode ", "exact", "reference", "'fast'"),
        ),
        Bad("x_gradient", _with_gradient, ValueError, ("x ", "gradient", "detach")),
    ),
    claims=COMMON | {"double backward", "ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 20, 2, 3), (0, 3, 2, 3))),
    autocast="full",
    registered=(
        Registered(
            "logistic_mixture_log_prob",
            lambda params, x, levels=256, mode="exact": (
                params, _arithmetic(x), levels, mode == "exact",
            ),
        ),
        Registered(
            "logistic_mixture_log_prob_bwd",
            lambda params, x, levels=256, mode="exact": (
                _arithmetic(x[:, 0]), _evidence(x), params, _arithmetic(x), levels, mode == "exact",
            ),
        ),
    ),
    constant=frozenset({"x"}),
    tied=frozenset({"x"}),
    fill={"params": gentle_params, "x": random_levels},
    devices=("cpu", "cuda"),
)  # fmt: skip

SAMPLE = OpSpec(
    name="logistic_mixture_sample",
    arguments=("params", "uniforms"),
    cases=(
        Case("colour", ((2, 20, 2, 3), (2, 4, 2, 3))),
        Case("grey", ((2, 6, 3, 2), (2, 2, 3, 2)), {"levels": 16}),
        Case("continuous", ((2, 20, 2, 3), (2, 4, 2, 3)), {"quantize": False}),
        Case("two_levels", ((1, 30, 2, 2), (1, 4, 2, 2)), {"levels": 2}),
        Case("one_component", ((2, 10, 1, 3), (2, 4, 1, 3))),
    ),
    # Rounding may move a quantised draw by a whole level.
    large=Case("large", ((3, 50, 31, 37), (3, 4, 31, 37)), {"quantize": False}),
    draw=_sample(),
    bad=(
        *_bad("uniforms", grey=2, colour=4),
        Bad(
            "quantize", lambda op: op(ones(2, 10, 3, 3), ones(2, 4, 3, 3), quantize=1),
            TypeError, ("quantize ", "1"),
        ),
    ),
    claims=(COMMON - {"backward"}) | {"ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 20, 2, 3), (0, 4, 2, 3))),
    autocast="full",
    registered=(
        Registered(
            "logistic_mixture_sample",
            lambda params, uniforms, levels=256, quantize=True: (
                params, _arithmetic(uniforms), levels, quantize,
            ),
        ),
    ),
    constant=frozenset({"params", "uniforms"}),
    tied=frozenset({"uniforms"}),
    fill={"uniforms": inner_uniforms},
    devices=("cpu", "cuda"),
)  # fmt: skip

SPECS = (LOG_PROB, SAMPLE)
