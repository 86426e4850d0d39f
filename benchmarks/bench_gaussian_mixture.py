"""gaussian_kl and gaussian_mixture_log_prob: against the matrix of all pairs, whole or in chunks.

KeOps joins where it is installed, and on CUDA the log-sum-exp that flex_attention returns: compiled for
CPUs it returns none.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COPY

QUERIES, DIM = 512, 40
CHUNK = {"cpu": 4096, "cuda": 65536}  # components, so that a chunk fills the cores of either
REACH = {FORWARD: {"torch.compile": 5.5}, TRAINING: {"torch.compile": 5.0}}
# On a GPU, with fp32 accuracy: what the model of the kernel takes, twice.
MANY_QUERIES, MANY_COMPONENTS, REACH_US = 1024, 1_000_000, {TRAINING: 4000.0}
TENSOR_CORES = Bound(
    COPY, 3.0, "three TF32 products for one of fp32 at the measured mma.sync rate, or a copy", "mma tf32"
)
KEOPS = importlib.util.find_spec("pykeops") is not None


def in_chunks(z: Tensor, means: Tensor, log_var: Tensor) -> Tensor:
    """What a user does when the matrix does not fit: chunks, computed again in backward."""
    sums, chunk = [], CHUNK[means.device.type]
    for first in range(0, len(means), chunk):
        some = means[first : first + chunk]
        rows = log_var[first : first + chunk] if log_var.ndim == 2 else log_var
        log_prob = partial(reference.gaussian_mixture_log_prob, log_weights=means.new_zeros(len(some)))
        if torch.is_grad_enabled():
            sums.append(checkpoint(log_prob, z, some, rows, use_reentrant=False))
        else:
            sums.append(log_prob(z, some, rows))
    return torch.logsumexp(torch.stack(sums), 0) - math.log(len(means))


def keops(z: Tensor, means: Tensor, log_var: Tensor) -> Tensor:
    """One variance, by differences that are never stored."""
    from pykeops.torch import LazyTensor

    scale = torch.exp(-0.5 * log_var)
    queries, components = LazyTensor((z * scale)[:, None]), LazyTensor((means * scale)[None])
    exponents = -0.5 * ((queries - components) ** 2).sum(-1)
    constant = 0.5 * z.shape[1] * (math.log(2 * math.pi) + log_var) + math.log(len(means))
    return exponents.logsumexp(1)[:, 0] - constant


def by_attention(z: Tensor, means: Tensor, log_var: Tensor) -> Tensor:
    """The normaliser of an attention of queries z / var to keys means, as flex_attention returns it."""
    from torch.nn.attention.flex_attention import flex_attention

    center = means.mean(0)
    z, means, precision = z - center, means - center, torch.exp(-log_var)
    bias = -0.5 * means.square().sum(1) * precision

    def score(product: Tensor, batch: Tensor, head: Tensor, query: Tensor, component: Tensor) -> Tensor:
        return product + bias[component]

    keys = means[None, None]
    _, total = flex_attention(
        (z * precision)[None, None], keys, keys, score_mod=score, scale=1.0, return_lse=True
    )
    own = -0.5 * (z.square().sum(1) * precision + z.shape[1] * (math.log(2 * math.pi) + log_var))
    return total[0, 0] + own - math.log(len(means))


def gaussian_mixture_log_prob(device: str, quick: bool) -> Iterator[Case]:
    if device != "cpu" and not quick:
        many = _mixture(device, MANY_COMPONENTS, "one variance", queries=MANY_QUERIES)
        yield replace(many, reach_us=REACH_US, headline=True)
    yield _mixture(device, 50_000, "one variance", reach=REACH if device == "cpu" else None)
    if not quick:
        # How many posteriors count decides on the time of the backward: next to none, or all.
        yield _mixture(device, 50_000, "one variance, narrow", scale=0.1)
        yield _mixture(device, 50_000, "one variance, wide", scale=1.0)
        yield _mixture(device, 500, "500 components with variances", queries=8192)
        yield _mixture(device, 50_000, "one variance, small batch", queries=16)
        if device != "cpu":
            yield _attention(device, MANY_QUERIES, MANY_COMPONENTS)
            yield _attention(device, QUERIES, 50_000)


def _points(
    device: str, queries: int, components: int, scale: float, own: bool, generator: torch.Generator
) -> Inputs:
    """Exemplars, and queries near some of them."""
    means = 0.5 * torch.randn(components, DIM, generator=generator)
    near = torch.randint(0, components, (queries,), generator=generator)
    z = means[near] + scale * torch.randn(queries, DIM, generator=generator)
    log_var = torch.tensor(2 * math.log(scale))
    if own:
        log_var = log_var + 0.5 * torch.randn(components, DIM, generator=generator)
    return z.to(device), means.to(device), log_var.to(device)


def _mixture(
    device: str,
    components: int,
    variant: str,
    *,
    queries: int = QUERIES,
    scale: float = 0.35,
    reach: dict[str, dict[str, float]] | None = None,
) -> Case:
    own = "with variances" in variant
    sides = {
        "eager": Side(reference.gaussian_mixture_log_prob),
        "chunked eager": Side(in_chunks),
        "genfast": Side(ops.gaussian_mixture_log_prob),
    }
    if KEOPS and not own:
        sides["KeOps"] = Side(keops)
    pairs = queries * components * DIM
    cuda: dict[str, Any] = {}
    if device != "cpu":
        nbytes = 4 * DIM * (queries + components)
        cuda["bytes"] = {FORWARD: nbytes, TRAINING: 3 * nbytes}
        cuda["bound"] = {FORWARD: TENSOR_CORES, TRAINING: TENSOR_CORES}
    return Case(
        op="gaussian_mixture_log_prob",
        variant=variant,
        dtype=torch.float32,
        shape=(queries, components, DIM),
        inputs=partial(_points, device, queries, components, scale, own),
        sides=sides,
        reference=Side(reference.gaussian_mixture_log_prob),
        flops={FORWARD: 2 * pairs, TRAINING: 8 * pairs},
        reach=reach or {},
        # The gradient of the one variance is a single number, whose error may be nought by luck.
        slack_ulps=2.0,
        **cuda,
    )


def _attention(device: str, queries: int, components: int) -> Case:
    """Forward alone: how exact a gradient its log-sum-exp has is not known. Later: it is compiled."""
    return Case(
        op="gaussian_mixture_log_prob",
        variant="one variance, flex_attention",
        dtype=torch.float32,
        shape=(queries, components, DIM),
        inputs=partial(_points, device, queries, components, 0.35, False),
        sides={
            "eager": Side(reference.gaussian_mixture_log_prob),
            "flex_attention": Side(torch.compile(by_attention)),
            "genfast": Side(ops.gaussian_mixture_log_prob),
        },
        reference=Side(reference.gaussian_mixture_log_prob),
        directions=(FORWARD,),
        flops={FORWARD: 2 * queries * components * DIM},
        compile=False,
        headline=True,
        later=True,
    )


def gaussian_kl(device: str, quick: bool) -> Iterator[Case]:
    yield _kl(device, "standard prior")
    if not quick:
        yield _kl(device, "any prior", prior=True)


def _kl(device: str, variant: str, *, prior: bool = False) -> Case:
    shape = (4096 if device == "cpu" else 1 << 17, 256)
    bound = Bound(COPY, 1.0, "a copy of the same bytes")

    def inputs(generator: torch.Generator) -> Inputs:
        count = 4 if prior else 2
        return tuple(torch.randn(shape, generator=generator).to(device) for _ in range(count))

    nbytes = math.prod(shape) * 4 * (4 if prior else 2)
    return Case(
        op="gaussian_kl",
        variant=variant,
        dtype=torch.float32,
        shape=shape,
        inputs=inputs,
        sides={"eager": Side(reference.gaussian_kl), "genfast": Side(ops.gaussian_kl)},
        reference=Side(reference.gaussian_kl),
        bytes={FORWARD: nbytes, TRAINING: 3 * nbytes},
        bound={} if device == "cpu" else {FORWARD: bound, TRAINING: bound},
        headline=device != "cpu",
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "gaussian_kl": gaussian_kl,
    "gaussian_mixture_log_prob": gaussian_mixture_log_prob,
}
