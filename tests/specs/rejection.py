"""rejection_accept and rejection_compact: their cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones
from specs.logistic_mixture import inner_uniforms
from torch import Tensor

LOG_M = 0.25


def accept_and_maximum(
    function: Callable[..., tuple[Tensor, ...]],
    logits: Tensor,
    uniforms: Tensor,
    log_m: float | Tensor = LOG_M,
    **keywords: Any,
) -> Tensor:
    """Both results in one tensor: the maximum, plus 1 where accepted."""
    accept, new_log_m = function(logits, uniforms, log_m, **keywords)
    return accept.to(logits.dtype) + new_log_m.to(logits.dtype)


def rows_and_count(
    function: Callable[..., tuple[Tensor, Tensor]], samples: Tensor, accept: Tensor
) -> Tensor:
    """Both results in one tensor: the accepted rows, 0 for the rest, plus the count."""
    given = accept > 0 if isinstance(accept, Tensor) and accept.is_floating_point() else accept
    rows, count = function(samples, given)
    kept = torch.arange(rows.shape[0], device=rows.device) < count
    return torch.where(kept.view(-1, *[1] * (rows.ndim - 1)), rows, 0) + count


def few(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Logits near the maximum, so that about half are accepted."""
    return torch.randn(shape, **options) / 2


@st.composite
def _accept(draw: st.DrawFn) -> Case:
    shape = (draw(st.integers(0, 70)),)
    gamma = draw(st.sampled_from([0.0, -1.5, 0.5]))
    return Case("drawn", (shape, shape), {"gamma": gamma, "eps": draw(st.sampled_from([1e-8, 0.1]))})


@st.composite
def _compact(draw: st.DrawFn) -> Case:
    batch = draw(st.integers(0, 40))
    inner = draw(st.lists(st.integers(0, 4), max_size=3))
    return Case("drawn", ((batch, *inner), (batch,)))


ACCEPT = OpSpec(
    name="rejection_accept",
    arguments=("logits", "uniforms"),
    cases=(
        Case("exact", ((37,), (37,))),
        Case("shifted", ((37,), (37,)), {"gamma": -1.0}),
        Case("harder", ((20,), (20,)), {"gamma": 2.0, "eps": 1e-6}),
        Case("wide_eps", ((20,), (20,)), {"eps": 0.3}),
        Case("no_maximum", ((5,), (5,)), {"log_m": -torch.inf}),
        Case("from_the_left", ((40,), (40,)), {"log_m": 3.0, "gamma": -3.0}),
    ),
    large=Case("large", ((70_001,), (70_001,)), {"log_m": -2.0}),
    vector=Case("vector", ((4096,), (4096,))),
    draw=_accept(),
    bad=(
        Bad("logits_type", lambda op: op([1.0], ones(1)), TypeError, ("logits must be", "list")),
        Bad("logits_integer", lambda op: op(ones(3).long(), ones(3)), TypeError, ("logits ", "int64")),
        Bad("logits_dims", lambda op: op(ones(3, 1), ones(3)), ValueError, ("logits ", "(3, 1)")),
        Bad("uniforms_type", lambda op: op(ones(3), 0.5), TypeError, ("uniforms must be", "float")),
        Bad(
            "uniforms_shape", lambda op: op(ones(3), ones(4)),
            ValueError, ("uniforms ", "(4,)", "logits", "(3,)"),
        ),
        Bad(
            "uniforms_dtype", lambda op: op(ones(3), ones(3).double()),
            TypeError, ("uniforms ", "torch.float64", "torch.float32"),
        ),
        Bad(
            "uniforms_device", lambda op: op(ones(3), ones(3).to("meta")),
            ValueError, ("uniforms ", "meta", "cpu"),
        ),
        Bad("no_seed", lambda op: op(ones(3), None), ValueError, ("uniforms ", "seed")),
        Bad("seed_too", lambda op: op(ones(3), ones(3), seed=1), ValueError, ("seed ", "uniforms")),
        Bad("seed_float", lambda op: op(ones(3), None, seed=1.0), TypeError, ("seed ", "1.0")),
        Bad("first", lambda op: op(ones(3), None, seed=1, first=-2), ValueError, ("first ", "-2")),
        Bad("log_m_type", lambda op: op(ones(3), ones(3), "0"), TypeError, ("log_m ", "'0'")),
        Bad("log_m_shape", lambda op: op(ones(3), ones(3), ones(1)), ValueError, ("log_m ", "(1,)")),
        Bad("log_m_nan", lambda op: op(ones(3), ones(3), torch.nan), ValueError, ("log_m ", "nan")),
        Bad(
            "log_m_device", lambda op: op(ones(3), ones(3), torch.ones((), device="meta")),
            ValueError, ("log_m ", "meta", "cpu"),
        ),
        Bad("gamma", lambda op: op(ones(3), ones(3), gamma=torch.inf), ValueError, ("gamma ", "inf")),
        Bad("gamma_type", lambda op: op(ones(3), ones(3), gamma="1"), TypeError, ("gamma ", "'1'")),
        Bad("eps", lambda op: op(ones(3), ones(3), eps=-1e-8), ValueError, ("eps ", "-1e-08")),
        Bad("eps_nan", lambda op: op(ones(3), ones(3), eps=torch.nan), ValueError, ("eps ", "nan")),
    ),
    claims=(COMMON - {"backward"}) | {"ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0,), (0,))),
    autocast="input",
    registered=(
        Registered(
            "rejection_accept",
            lambda logits, uniforms, log_m=LOG_M, gamma=0.0, eps=1e-8: (
                logits,
                uniforms.to(_arithmetic(logits)),
                torch.full((), log_m, dtype=_arithmetic(logits), device=logits.device),
                gamma, eps, 0, 0, False,
            ),
        ),
    ),
    constant=frozenset({"logits", "uniforms"}),
    tied=frozenset({"uniforms"}),
    fill={"logits": few, "uniforms": inner_uniforms},
    result=accept_and_maximum,
    images=False,
)  # fmt: skip


def _arithmetic(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


COMPACT = OpSpec(
    name="rejection_compact",
    arguments=("samples", "accept"),
    cases=(
        Case("pairs", ((19, 2), (19,))),
        Case("numbers", ((19,), (19,))),
        Case("images", ((6, 3, 4, 5), (6,))),
        Case("threes", ((11, 3), (11,))),
    ),
    large=Case("large", ((9001, 5), (9001,))),
    vector=Case("vector", ((70, 8, 4, 4), (70,))),
    draw=_compact(),
    bad=(
        Bad("samples_type", lambda op: op([1.0], ones(1) > 0), TypeError, ("samples must be", "list")),
        Bad("samples_0dim", lambda op: op(torch.ones(()), ones(1) > 0), ValueError, ("samples ", "()")),
        Bad("accept_type", lambda op: op(ones(1), [True]), TypeError, ("accept must be", "list")),
        Bad("accept_integer", lambda op: op(ones(3), ones(3).int()), TypeError, ("accept ", "int32")),
        Bad(
            "accept_shape", lambda op: op(ones(3, 2), ones(2) > 0),
            ValueError, ("accept ", "(3,)", "(3, 2)", "(2,)"),
        ),
        Bad(
            "accept_device", lambda op: op(ones(3), (ones(3) > 0).to("meta")),
            ValueError, ("accept ", "meta", "cpu"),
        ),
        Bad(
            "samples_gradient", lambda op: op(ones(3).requires_grad_(), ones(3) > 0),
            ValueError, ("samples ", "gradient", "detach"),
        ),
    ),
    claims=(COMMON - {"backward"}) | {"ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 3), (0,))),
    autocast="input",
    registered=(
        Registered(
            "rejection_compact", lambda samples, accept: (samples, accept > 0), leaves_memory=True
        ),
    ),
    constant=frozenset({"samples", "accept"}),
    tied=frozenset({"accept"}),
    result=rows_and_count,
    one_dtype=False,
)  # fmt: skip

SPECS = (ACCEPT, COMPACT)
