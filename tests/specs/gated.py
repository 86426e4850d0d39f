"""gated_activation: its cases."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones


@st.composite
def _gated(draw: st.DrawFn) -> Case:
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    dim = draw(st.integers(0, len(shape) - 1))
    shape[dim] = 2 * draw(st.integers(0, 20))
    cond = None
    if draw(st.booleans()):
        kept = draw(st.integers(0, len(shape)))
        cond = tuple(n if draw(st.booleans()) else 1 for n in shape[kept:])
    signed = dim - len(shape) if draw(st.booleans()) else dim
    return Case("drawn", (tuple(shape), cond), {"dim": signed})


GATED = OpSpec(
    name="gated_activation",
    arguments=("x", "cond"),
    cases=(
        Case("plain", ((2, 4, 3), None)),
        Case("cond", ((2, 4, 3), (2, 4, 3))),
        Case("cond_class", ((2, 4, 3, 2), (2, 4, 1, 1))),
        Case("cond_shared_by_batch", ((3, 4, 3), (4, 1))),
        Case("cond_one_for_both_halves", ((2, 4, 3), (2, 1, 3))),
        Case("cond_scalar", ((2, 4), ())),
        Case("last_dim", ((3, 6), (3, 6)), {"dim": -1}),
        Case("first_dim", ((6, 3), None), {"dim": 0}),
    ),
    large=Case("large", ((4, 18, 31, 37), (4, 18, 1, 1))),
    vector=Case("vector", ((3, 32, 9, 8), (3, 32, 1, 1))),
    draw=_gated(),
    bad=(
        Bad("x_type", lambda op: op([1.0, 2.0]), TypeError, ("x must be", "list")),
        Bad("x_integer", lambda op: op(ones(2, 4, dtype=torch.int64)), TypeError, ("x ", "torch.int64")),
        Bad("x_complex", lambda op: op(ones(2, 4, dtype=torch.cfloat)), TypeError, ("x ", "complex64")),
        Bad("x_odd", lambda op: op(ones(2, 5)), ValueError, ("x ", "even", "(2, 5)", "dim=1")),
        Bad("x_0dim", lambda op: op(torch.tensor(1.0), dim=0), ValueError, ("dim=0", "()")),
        Bad("dim_high", lambda op: op(ones(2, 4), dim=2), ValueError, ("dim=2", "(2, 4)")),
        Bad("dim_low", lambda op: op(ones(2, 4), dim=-3), ValueError, ("dim=-3", "(2, 4)")),
        Bad("dim_type", lambda op: op(ones(2, 4), dim="1"), TypeError, ("dim", "'1'")),
        Bad("dim_float", lambda op: op(ones(2, 4), dim=1.0), TypeError, ("dim", "1.0")),
        Bad("cond_type", lambda op: op(ones(2, 4), 3.0), TypeError, ("cond must be", "float")),
        Bad(
            "cond_dtype", lambda op: op(ones(2, 4), ones(2, 4, dtype=torch.float64)),
            TypeError, ("cond ", "torch.float64", "torch.float32"),
        ),
        Bad(
            "cond_device", lambda op: op(ones(2, 4), ones(2, 4).to("meta")),
            ValueError, ("cond ", "meta", "cpu"),
        ),
        Bad(
            "cond_shape", lambda op: op(ones(2, 4), ones(3, 4)),
            ValueError, ("cond ", "(3, 4)", "(2, 4)"),
        ),
        Bad(
            "cond_too_many_dims", lambda op: op(ones(2, 4), ones(1, 2, 4)),
            ValueError, ("cond ", "(1, 2, 4)", "(2, 4)"),
        ),
        Bad("cond_larger", lambda op: op(ones(1, 4), ones(2, 4)), ValueError, ("cond ", "(2, 4)")),
    ),
    claims=COMMON | {"double backward", "ISA levels", "same bits on any threads"},
    empty=Case("empty", ((0, 4, 3), (1, 4, 3))),
    autocast="input",
    registered=(
        Registered("gated_activation", lambda x, cond, dim=1: (x, cond, dim % x.ndim)),
        Registered(
            "gated_activation_bwd",
            lambda x, cond, dim=1: (x.narrow(dim, 0, x.shape[dim] // 2), x, cond, dim % x.ndim),
        ),
    ),
)  # fmt: skip

SPECS = (GATED,)
