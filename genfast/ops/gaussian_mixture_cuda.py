"""The Gaussian mixture on CUDA: what kernels need of points, and what follows from their sums.

csrc/gaussian_mixture/mixture_products.h describes the kernels. They take queries x and components y, c
such that a pair's score, in units of log 2, is x . y + c; all that is O(B + N) is done here by PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native

LOG2E = 1 / math.log(2)
# As in the kernels: below every score, and the score of what is left out.
_LOWEST, _LEFT_OUT = -1e37, -2e37
_NEGLIGIBLE = {torch.float32: -40.0, torch.float64: -100.0}  # log2 of a posterior that may count as 0
_COLUMNS = 32  # of a tile
_ROWS = 64  # of a block, at most
# That keep a large GPU busy: 16 for each of 132 multiprocessors, so that it matters little if some get
# one more than others.
_BLOCKS = 2112


@dataclass(frozen=True)
class Points:
    """Queries and components as kernels want them, and what takes sums over them back."""

    x: Tensor
    y: Tensor
    c: Tensor  # (N,)
    queries: Tensor  # z, centred
    components: Tensor  # means, centred
    own: bool  # every component has its variances
    query_ids: Tensor | None
    component_ids: Tensor | None
    tf32: bool

    @property
    def arithmetic(self) -> int:
        return 2 if self.x.dtype == torch.float64 else int(self.tf32)


def points(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
) -> Points:
    """With own variances, whose features z^2 and z no rounding moves together, always in fp32."""
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    z, means, log_var = z.to(dtype), means.to(dtype), log_var.to(dtype)
    center = means.sum(0) / max(means.shape[0], 1)
    z, means = z - center, means - center
    own = log_var.ndim == 2
    if own:
        inverse = LOG2E * torch.exp(-log_var)
        x, y = torch.cat([z.square(), z], 1), torch.cat([-0.5 * inverse, means * inverse], 1)
        c = -0.5 * (means.square() * inverse + LOG2E * log_var).sum(1)
    else:
        root = _root(log_var)
        x, y = z * root, means * root
        if tf32:  # once, norms included: the exact density of points that moved a little
            x, y = _rounded_to_tf32(x), _rounded_to_tf32(y)
        c = -0.5 * y.square().sum(1)
    if log_weights is not None:
        c = (c + LOG2E * log_weights.to(dtype)).clamp(min=_LEFT_OUT)
    query_ids, component_ids = (
        None if t is None else t.contiguous() for t in (query_ids, component_ids)
    )
    # Kernels are given no strides, and what PyTorch computes is laid out as its operands are.
    x, y = x.contiguous(), y.contiguous()
    return Points(x, y, c, z, means, own, query_ids, component_ids, tf32 and not own)


def _root(log_var: Tensor) -> Tensor:
    return math.sqrt(LOG2E) * torch.exp(-0.5 * log_var)


def _rounded_to_tf32(x: Tensor) -> Tensor:
    """To 10 bits of mantissa, ties away from zero."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def left(z: Tensor, means: Tensor, query_ids: Tensor | None, component_ids: Tensor | None) -> Tensor:
    """How many components each query keeps, (B,), without a B x N matrix."""
    everything = torch.full((z.shape[0],), means.shape[0], device=z.device)
    if query_ids is None or component_ids is None:
        return everything
    ids = torch.sort(component_ids).values
    after = torch.searchsorted(ids, query_ids.contiguous(), right=True)
    return everything - (after - torch.searchsorted(ids, query_ids.contiguous()))


def _run(
    kernel: Callable[..., None],
    p: Points,
    by_query: bool,
    partial: Tensor,
    mass: Tensor,
    of_queries: Sequence[Tensor | None] = (None, None, None),
) -> None:
    shape = (
        p.arithmetic, by_query, p.x.shape[0], p.y.shape[0], p.x.shape[1], mass.shape[0],
    )  # fmt: skip
    tensors = (p.x, p.y, p.c, p.query_ids, p.component_ids, *of_queries, partial, mass)
    addresses = [0 if t is None else t.data_ptr() for t in tensors]
    kernel(shape, addresses, *_native.device_and_stream(p.x))


def _splits(rows: int, columns: int) -> int:
    """Few rows alone would leave most of a GPU idle."""
    blocks, tiles = -(-rows // _ROWS), -(-columns // _COLUMNS)
    return max(1, min(tiles, -(-_BLOCKS // max(blocks, 1))))


def log_prob(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    """The registered op: log p (B,) and the evidence (2, B)."""
    p = points(z, means, log_var, log_weights, query_ids, component_ids, tf32)
    size = _splits(z.shape[0], means.shape[0]), z.shape[0]
    tops, sums = p.x.new_empty(size), p.x.new_empty(size)
    _run(_C.gaussian_mixture_densities_cuda, p, True, tops, sums)
    top = tops.amax(0)
    total = (sums * torch.exp2(tops - top)).sum(0)
    nothing = (top <= _LOWEST) & ~total.isnan()
    # In fp64: the largest score and the query's own term are large and of opposite sign.
    log2 = top.double() + torch.log2(total.double())
    if not p.own:
        log2 = log2 - 0.5 * (p.x.double().square().sum(1) + LOG2E * log_var.double().sum())
    nats = log2 / LOG2E - 0.5 * z.shape[1] * math.log(2 * math.pi)
    if log_weights is None:
        nats = nats - torch.log(left(z, means, query_ids, component_ids).double().clamp(min=1))
    evidence = torch.stack([top, total.masked_fill(nothing, 0)])
    return nats.masked_fill(nothing, -math.inf).to(p.x.dtype), evidence


def gradient(
    grad: Tensor,
    evidence: Tensor,
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    log_weights: Tensor | None,
    query_ids: Tensor | None,
    component_ids: Tensor | None,
    tf32: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The registered op: of z, means, log_var and log_weights; empty where not wanted."""
    p = points(z, means, log_var, log_weights, query_ids, component_ids, tf32)
    top, total = evidence
    counts = total != 0
    scale = torch.where(counts, grad / total, 0)
    least = torch.where(counts, top + torch.log2(total) + _NEGLIGIBLE[p.x.dtype], -_LOWEST)
    of_queries = torch.where(counts, top, -_LOWEST), scale, least
    unknown = z.new_empty(0)
    of_z, of_means, of_log_var, of_log_weights = unknown, unknown, unknown, unknown
    shared = wanted[2] and not p.own
    if wanted[0] or shared:
        x_sums, x_mass = _sums(p, True, of_queries)
        of_z = _gradient_of_z(p, x_sums, x_mass, log_var).to(z.dtype) if wanted[0] else unknown
    if any(wanted[1:]):
        y_sums, y_mass = _sums(p, False, of_queries)
        of_log_weights = y_mass.to(z.dtype) if wanted[3] else unknown
        if wanted[1]:
            of_means = _gradient_of_means(p, y_sums, y_mass, log_var).to(z.dtype)
        if wanted[2] and p.own:
            of_log_var = _gradient_of_own(p, y_sums, y_mass, log_var).to(log_var.dtype)
    if shared:
        squares = (p.y * (y_mass[:, None] * p.y - 2 * y_sums)).sum(0, dtype=torch.float64)
        squares = squares + (x_mass[:, None] * p.x.square()).sum(0, dtype=torch.float64)
        mass = x_mass.sum(dtype=torch.float64)
        of_log_var = (0.5 * (squares / LOG2E - mass)).to(p.x.dtype)
    return of_z, of_means, of_log_var, of_log_weights


def _sums(p: Points, by_query: bool, of_queries: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    rows, columns = (p.x, p.y) if by_query else (p.y, p.x)
    splits = _splits(rows.shape[0], columns.shape[0])
    partial = rows.new_empty((splits, *rows.shape))
    mass = rows.new_empty((splits, rows.shape[0]))
    _run(_C.gaussian_mixture_posteriors_cuda, p, by_query, partial, mass, of_queries)
    return (partial[0], mass[0]) if splits == 1 else (partial.sum(0), mass.sum(0))


def _gradient_of_z(p: Points, sums: Tensor, mass: Tensor, log_var: Tensor) -> Tensor:
    if p.own:
        squares, linear = sums.chunk(2, 1)
        return (linear + 2 * p.queries * squares) / LOG2E
    return (sums - mass[:, None] * p.x) * (_root(log_var.to(p.x.dtype)) / LOG2E)


def _gradient_of_means(p: Points, sums: Tensor, mass: Tensor, log_var: Tensor) -> Tensor:
    log_var = log_var.to(p.x.dtype)
    if p.own:
        return (sums.chunk(2, 1)[1] - mass[:, None] * p.components) * torch.exp(-log_var)
    return (sums - mass[:, None] * p.y) * (_root(log_var) / LOG2E)


def _gradient_of_own(p: Points, sums: Tensor, mass: Tensor, log_var: Tensor) -> Tensor:
    squares, linear = sums.chunk(2, 1)
    means, mass = p.components, mass[:, None]
    distances = squares - 2 * means * linear + mass * means.square()
    return 0.5 * (distances * torch.exp(-log_var.to(p.x.dtype)) - mass)
