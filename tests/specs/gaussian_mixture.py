"""gaussian_kl and gaussian_mixture_log_prob: their cases."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones
from torch import Tensor


def random_ids(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Of a few values, so that some of them meet."""
    return torch.randint(0, 5, shape, generator=options["generator"])


def random_component_ids(shape: tuple[int, ...], **options: Any) -> Tensor:
    """The first is no query's: repeated by an expansion, it leaves out nothing."""
    ids = random_ids(shape, **options)
    ids[:1] = 9
    return ids


def gentle_points(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Near each other: far apart, second derivatives lose digits, in PyTorch too."""
    return 0.4 * torch.randn(shape, **options)


def gentle_log_vars(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Variances from 0.6 to 1.6."""
    return 0.5 * torch.tanh(torch.randn(shape, **options))


def random_log_vars(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Variances from 0.3 to 3."""
    return 1.2 * torch.tanh(torch.randn(shape, **options))


# ---- KL ------------------------------------------------------------------------------------------


@st.composite
def _kl(draw: st.DrawFn) -> Case:
    shape = (draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.integers(1, 40)))
    other = st.sampled_from([shape, shape[1:], (1, shape[2]), (shape[2],), ()])
    prior = draw(st.sampled_from([st.none(), other]))
    return Case("drawn", (shape, draw(other), draw(prior), draw(prior)))


def _expanded(mean: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """As the registered ops want them: both parameters of the prior or none."""
    if others[1] is not None or others[2] is not None:
        others = tuple(mean.new_zeros(()) if t is None else t for t in others)
    return mean, *(None if t is None else t.expand(mean.shape) for t in others)


KL = OpSpec(
    name="gaussian_kl",
    arguments=("mean", "log_var", "prior_mean", "prior_log_var"),
    cases=(
        Case("images", ((2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5))),
        Case("standard", ((3, 5), (3, 5), None, None)),
        Case("shared_prior", ((2, 3, 5), (2, 3, 5), (5,), ())),
        Case("prior_log_var", ((3, 17), (17,), None, (1, 17))),
    ),
    large=Case("large", ((300, 701), (300, 701), (701,), (300, 701))),
    vector=Case("vector", ((37, 264), (37, 264), (264,), (37, 264))),
    draw=_kl(),
    bad=(
        Bad("mean_type", lambda op: op([1.0], ones(1)), TypeError, ("mean must be", "list")),
        Bad("mean_integer", lambda op: op(ones(2).long(), ones(2)), TypeError, ("mean ", "torch.int64")),
        Bad("mean_scalar", lambda op: op(ones(), ones()), ValueError, ("mean ", "1 dimension", "()")),
        Bad("log_var_type", lambda op: op(ones(2), 0.0), TypeError, ("log_var must be", "float")),
        Bad(
            "log_var_shape", lambda op: op(ones(2, 3), ones(2, 2)),
            ValueError, ("log_var ", "(2, 2)", "(2, 3)"),
        ),
        Bad(
            "log_var_dims", lambda op: op(ones(3), ones(2, 3)),
            ValueError, ("log_var ", "(2, 3)", "(3,)"),
        ),
        Bad(
            "log_var_dtype", lambda op: op(ones(3), ones(3).double()),
            TypeError, ("log_var ", "torch.float64", "torch.float32"),
        ),
        Bad(
            "prior_mean_shape", lambda op: op(ones(2, 3), ones(2, 3), ones(4)),
            ValueError, ("prior_mean ", "(4,)", "(2, 3)"),
        ),
        Bad(
            "prior_log_var_device", lambda op: op(ones(3), ones(3), None, ones(3).to("meta")),
            ValueError, ("prior_log_var ", "meta", "cpu"),
        ),
    ),
    claims=COMMON | {"double backward", "ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 5), (0, 5), (5,), None)),
    autocast="full",
    registered=(
        Registered("gaussian_kl", lambda *tensors: _expanded(*tensors)),
        Registered(
            "gaussian_kl_bwd", lambda mean, *others: (mean[..., 0], *_expanded(mean, *others))
        ),
    ),
    tied=frozenset({"log_var", "prior_mean", "prior_log_var"}),
    fill={"log_var": random_log_vars, "prior_log_var": random_log_vars},
    devices=("cpu", "cuda"),
)  # fmt: skip

# ---- mixture -------------------------------------------------------------------------------------


@st.composite
def _mixture(draw: st.DrawFn) -> Case:
    queries, components = draw(st.integers(0, 9)), draw(st.integers(1, 150))
    dim = draw(st.integers(1, 20))
    log_var = draw(st.sampled_from([(), (dim,), (components, dim)]))
    weights = draw(st.sampled_from([None, (components,)]))
    # No query loses every component: the mixture of none is not finite, and has tests of its own.
    ids = draw(st.booleans()) and components > 40
    of_ids = ((queries,), (components,)) if ids else (None, None)
    return Case("drawn", ((queries, dim), (components, dim), log_var, weights, *of_ids))


def _arithmetic(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _arguments(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
) -> tuple[Any, ...]:
    spread = log_var.expand(z.shape[1]) if log_var.ndim == 0 else log_var
    return z, means, spread, log_weights, query_ids, component_ids, False


def _of_gradient(*tensors: Any) -> tuple[Any, ...]:
    z = _arithmetic(tensors[0])
    evidence = torch.stack([torch.zeros_like(z[:, 0]), torch.ones_like(z[:, 0])])
    return z[:, 0], evidence, *_arguments(*tensors), [True, True, True, tensors[3] is not None]


_Z, _MEANS, _LOG_VAR = ones(2, 3), ones(4, 3), ones()

MIXTURE = OpSpec(
    name="gaussian_mixture_log_prob",
    arguments=("z", "means", "log_var", "log_weights", "query_ids", "component_ids"),
    by_name=True,
    images=False,
    integers=frozenset({"query_ids", "component_ids"}),
    cases=(
        Case("left_out", ((3, 3), (37, 3), (), None, (3,), (37,))),
        Case("dims", ((3, 3), (7, 3), (3,), None, None, None)),
        Case("components", ((3, 3), (7, 3), (7, 3), None, None, None)),
        Case("everything", ((2, 3), (9, 3), (9, 3), (9,), (2,), (9,))),
        Case("more_queries", ((11, 2), (3, 2), (2,), (3,), None, None)),
    ),
    large=Case("large", ((301, 37), (1003, 37), (37,), (1003,), (301,), (1003,))),
    draw=_mixture(),
    bad=(
        Bad("z_type", lambda op: op([1.0], _MEANS, _LOG_VAR), TypeError, ("z must be", "list")),
        Bad("z_integer", lambda op: op(_Z.long(), _MEANS, _LOG_VAR), TypeError, ("z ", "torch.int64")),
        Bad("z_dims", lambda op: op(_Z[0], _MEANS, _LOG_VAR), ValueError, ("z ", "2 dim", "(3,)")),
        Bad(
            "z_columns", lambda op: op(ones(2, 0), ones(4, 0), _LOG_VAR),
            ValueError, ("z ", "1 column", "(2, 0)"),
        ),
        Bad(
            "means_columns", lambda op: op(_Z, ones(4, 2), _LOG_VAR),
            ValueError, ("means ", "(4, 2)", "(2, 3)"),
        ),
        Bad(
            "means_dtype", lambda op: op(_Z, _MEANS.double(), _LOG_VAR),
            TypeError, ("means ", "torch.float64", "torch.float32"),
        ),
        Bad("log_var_type", lambda op: op(_Z, _MEANS, 0.0), TypeError, ("log_var must be", "float")),
        Bad(
            "log_var_shape", lambda op: op(_Z, _MEANS, ones(4)),
            ValueError, ("log_var ", "scalar", "(3,)", "(4, 3)", "(4,)"),
        ),
        Bad(
            "log_var_rows", lambda op: op(_Z, _MEANS, ones(2, 3)),
            ValueError, ("log_var ", "(4, 3)", "(2, 3)"),
        ),
        Bad(
            "log_weights_length", lambda op: op(_Z, _MEANS, _LOG_VAR, log_weights=ones(3)),
            ValueError, ("log_weights ", "(4,)", "(3,)"),
        ),
        Bad(
            "log_weights_device", lambda op: op(_Z, _MEANS, _LOG_VAR, log_weights=ones(4).to("meta")),
            ValueError, ("log_weights ", "meta", "cpu"),
        ),
        Bad(
            "query_ids_alone", lambda op: op(_Z, _MEANS, _LOG_VAR, query_ids=ones(2).long()),
            ValueError, ("query_ids ", "component_ids"),
        ),
        Bad(
            "component_ids_alone", lambda op: op(_Z, _MEANS, _LOG_VAR, component_ids=ones(4).long()),
            ValueError, ("component_ids ", "query_ids"),
        ),
        Bad(
            "query_ids_float",
            lambda op: op(_Z, _MEANS, _LOG_VAR, query_ids=ones(2), component_ids=ones(4).long()),
            TypeError, ("query_ids ", "integers", "torch.float32"),
        ),
        Bad(
            "component_ids_length",
            lambda op: op(_Z, _MEANS, _LOG_VAR, query_ids=ones(2).long(), component_ids=ones(2).long()),
            ValueError, ("component_ids ", "(4,)", "(2,)"),
        ),
        Bad(
            "precision", lambda op: op(_Z, _MEANS, _LOG_VAR, precision="bf16"),
            ValueError, ("precision ", "fp32", "tf32", "'bf16'"),
        ),
    ),
    claims=COMMON | {"double backward", "ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 5), (7, 5), (5,), (7,), (0,), (7,))),
    autocast="full",
    registered=(
        Registered("gaussian_mixture_log_prob", _arguments),
        Registered("gaussian_mixture_log_prob_bwd", _of_gradient),
    ),
    constant=frozenset({"query_ids", "component_ids"}),
    tied=frozenset({"query_ids"}),
    fill={
        "z": gentle_points,
        "means": gentle_points,
        "log_var": gentle_log_vars,
        "query_ids": random_ids,
        "component_ids": random_component_ids,
    },
    devices=("cpu", "cuda"),
)  # fmt: skip

SPECS = (KL, MIXTURE)
