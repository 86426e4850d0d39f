"""gaussian_mixture_log_prob with its components split over processes, against one process with all."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from genfast.ops import gaussian_mixture_log_prob
from genfast.ops.gaussian_mixture_sharded import sharded_gaussian_mixture_log_prob

QUERIES, COMPONENTS, DIM = 11, 37, 5
CASES = [(variances, weighted) for variances in ("scalar", "dims", "own") for weighted in (False, True)]


def tensors(variances: str, weighted: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shape = {"scalar": (), "dims": (DIM,), "own": (COMPONENTS, DIM)}[variances]
    made = {"z": normal(QUERIES, DIM), "means": normal(COMPONENTS, DIM), "log_var": normal(*shape)}
    return made | ({"log_weights": normal(COMPONENTS)} if weighted else {})


def ids() -> tuple[Tensor, Tensor]:
    """Of several components in different processes, and of none."""
    of_components = torch.arange(COMPONENTS) % 10
    return torch.arange(QUERIES) * 2 % 14, of_components


def shard(name: str, value: Tensor, rank: int, world: int) -> Tensor:
    """The rows of a rank; with three ranks, the second has none."""
    if name == "z" or value.shape[:1] != (COMPONENTS,):
        return value
    ends = {2: (0, 13, 37), 3: (0, 13, 13, 37)}[world]
    return value[ends[rank] : ends[rank + 1]]


def run_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    results = {}
    for case in CASES:
        queries, components = ids()
        leaves = {
            name: shard(name, value, rank, world).clone().requires_grad_()
            for name, value in tensors(*case).items()
        }
        y = sharded_gaussian_mixture_log_prob(
            **leaves, query_ids=queries, component_ids=shard("ids", components, rank, world)
        )
        y.backward(torch.arange(QUERIES, dtype=torch.float64))
        results[case] = (y.detach(), {name: leaf.grad for name, leaf in leaves.items()})
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_processes_give_what_one_gives(world: int, tmp_path: Path) -> None:
    """The density in every process, its share of the components' gradients, the whole of the others."""
    mp.spawn(run_rank, (world, str(tmp_path)), nprocs=world)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for case in CASES:
        leaves = {name: value.requires_grad_() for name, value in tensors(*case).items()}
        queries, components = ids()
        y = gaussian_mixture_log_prob(**leaves, query_ids=queries, component_ids=components)
        y.backward(torch.arange(QUERIES, dtype=torch.float64))
        for rank, results in enumerate(ranks):
            got, gradients = results[case]
            torch.testing.assert_close(got, y.detach(), rtol=1e-12, atol=1e-12)
            for name, leaf in leaves.items():
                expected = shard(name, leaf.grad, rank, world)
                torch.testing.assert_close(gradients[name], expected, rtol=1e-10, atol=1e-12)


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_nothing_left_in_any_process() -> None:
    z, means = torch.zeros(2, 3).requires_grad_(), torch.ones(4, 3).requires_grad_()
    y = sharded_gaussian_mixture_log_prob(
        z, means, torch.zeros(()), query_ids=torch.tensor([7, 8]), component_ids=torch.full((4,), 7)
    )
    y.backward(torch.ones(2))
    assert y[0] == -math.inf
    assert y[1].isfinite()
    assert not z.grad[0].any()
    assert z.grad[1].all()
    assert means.grad.isfinite().all()


@pytest.mark.usefixtures("one_process")
def test_second_derivatives_are_refused() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    y = sharded_gaussian_mixture_log_prob(z, torch.ones(4, 3), torch.zeros(()))
    (gradient,) = torch.autograd.grad(y.sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        sharded_gaussian_mixture_log_prob(torch.zeros(1, 2), torch.zeros(3, 2), torch.zeros(()))
