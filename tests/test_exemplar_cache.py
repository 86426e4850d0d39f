"""The cache of exemplar means: neighbours against brute force in fp64, on one process and on several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from joined import hear, two
from torch import Tensor

from genfast.models.latent import ExemplarCache
from genfast.models.latent.neighbour_index import NeighbourIndex

KINDS = ["flat", "ivf", "torch"]
CPU = torch.device("cpu")


def points(count: int = 2000, dims: int = 8, offset: float = 0.0) -> Tensor:
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(0)) + offset


def nearest(queries: Tensor, vectors: Tensor, k: int, allowed: Tensor | None = None) -> Tensor:
    """By differences in fp64; `allowed` (B, N) says where to look."""
    distances = (queries.double()[:, None] - vectors.double()).square().sum(2)
    if allowed is not None:
        distances = distances.masked_fill(~allowed, torch.inf)
    return distances.topk(k, largest=False).indices


def recall(found: Tensor, expected: Tensor) -> float:
    """The share of the rows of `expected` that are in those of `found`."""
    return (found[:, :, None] == expected[:, None]).any(1).double().mean().item()


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_brute_force(kind: str, offset: float) -> None:
    """Also far from the origin, where squares of norms alone would cancel."""
    vectors, queries = points(offset=offset), points(50, offset=offset) + 0.1
    index = NeighbourIndex(kind, CPU)
    index.build(vectors)
    distances, rows = index.search(queries, 10)
    expected = nearest(queries, vectors, 10)
    if kind == "ivf":
        assert recall(rows, expected) > 0.6  # approximate, as it says
    else:
        assert torch.equal(rows, expected)
        exact = (queries[:, None].double() - vectors[expected].double()).square().sum(2)
        torch.testing.assert_close(distances.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_replaced_and_searches_kept_to_a_part(kind: str) -> None:
    vectors, queries = points(), points(50) + 0.1
    index = NeighbourIndex(kind, CPU)
    index.build(vectors)
    rows = torch.arange(0, 2000, 7)
    vectors[rows] = points(len(rows)) * 0.3
    index.replace(rows, vectors[rows])
    found = index.search(queries, 5)[1]
    expected = nearest(queries, vectors, 5)
    assert recall(found, expected) > 0.6 if kind == "ivf" else torch.equal(found, expected)
    within = torch.arange(1, 2000, 3)
    found = index.search(queries, 5, within)[1]
    assert (found % 3 == 1).all()
    if kind != "ivf":
        allowed = (torch.arange(2000) % 3 == 1).expand(50, -1)
        assert torch.equal(found, nearest(queries, vectors, 5, allowed))
    few = index.search(queries, 5, torch.tensor([4, 9]))
    assert (few[1][:, 2:] == -1).all()
    assert (few[0][:, 2:] == torch.inf).all()


@pytest.mark.parametrize("kind", ["flat", "torch"])
def test_an_image_itself_takes_no_place_among_its_neighbours(kind: str) -> None:
    """Excluded before the search: all k places are others', its duplicates among them."""
    means = points(500)
    means[77] = means[5]
    cache = ExemplarCache(500, 8, kind, CPU)
    cache.refresh(means, step=0)
    batch = torch.tensor([5, 77, 123, 499])
    found = cache.search(means[batch], 10, exclude=batch)
    allowed = torch.arange(500) != batch[:, None]
    assert found.shape == (4, 10)
    assert torch.equal(found, nearest(means[batch], means, 10, allowed))
    assert found[0, 0] == 77
    within = torch.tensor([5, 6, 7])
    few = cache.search(means[batch], 3, exclude=batch, within=within)
    assert set(few[0].tolist()) == {6, 7, -1}
    assert set(few[2].tolist()) == {5, 6, 7}


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_cache_searches_alike(kind: str) -> None:
    """After updates, so that neither the centre nor the lists are those of a new build."""
    means, batch = points(), torch.arange(0, 2000, 11)
    cache = ExemplarCache(2000, 8, kind, CPU)
    cache.refresh(means, step=3)
    cache.update(batch, means[batch] + 0.2, step=5)
    assert cache.written.unique().tolist() == [3, 5]
    other = ExemplarCache(2000, 8, kind, CPU)
    other.restore({name: tensor.clone() for name, tensor in cache.gather().items()})
    queries = points(200) * 0.9
    assert torch.equal(cache.search(queries, 10), other.search(queries, 10))
    assert torch.equal(cache.written, other.written)
    with pytest.raises(ValueError, match="not of 1999 exemplars"):
        ExemplarCache(1999, 8, kind, CPU).restore(cache.gather())


def shared(tell: Callable[[Any], None], processes: Any, kind: str) -> None:
    """What one process of two finds in a cache of an odd number of exemplars."""
    import torch.distributed as dist

    means, batch = points(501), torch.arange(0, 501, 13)
    cache = ExemplarCache(501, 8, kind, CPU, group=dist.group.WORLD)
    part = slice(cache.rows.start, cache.rows.stop)
    cache.refresh(means[part], step=0)
    cache.update(batch, means[batch] + 0.3, step=1)
    means[batch] += 0.3
    within = torch.arange(0, 501, 2)
    found = [
        cache.search(means[:40], 7, exclude=torch.arange(40)),
        cache.search(means[:40], 7, exclude=torch.arange(40), within=within),
        cache.gather()["means"],
    ]
    # A part with fewer exemplars than neighbours asked for.
    few = cache.search(means[:2], 4, within=torch.tensor([0, 1, 500]))
    # Each exemplar twice, a process each, of which one also has one far off: the first is found.
    twins = ExemplarCache(502, 8, kind, CPU, group=dist.group.WORLD)
    far = torch.full((1, 8), 9.0 if dist.get_rank() else -5.0)
    twins.refresh(torch.cat([means[:250], far]), step=0)
    first = twins.search(means[:250] + 0.05, 1)
    tell([tensor.tolist() for tensor in (*found, few, first)])


@pytest.mark.parametrize("kind", ["flat", "torch"])
def test_processes_that_share_the_exemplars_find_what_one_finds(kind: str) -> None:
    both, readers = two(shared, kind)
    told = [hear(reader) for reader in readers]
    for process in both:
        process.join(60)
    assert told[0] == told[1]
    means = points(501)
    means[torch.arange(0, 501, 13)] += 0.3
    others = torch.arange(501) != torch.arange(40)[:, None]
    assert told[0][0] == nearest(means[:40], means, 7, others).tolist()
    even = others & (torch.arange(501) % 2 == 0)
    assert told[0][1] == nearest(means[:40], means, 7, even).tolist()
    torch.testing.assert_close(torch.tensor(told[0][2]), means)
    assert [set(row) for row in told[0][3]] == [{0, 1, 500, -1}] * 2
    anywhere = torch.ones(250, 250, dtype=torch.bool)
    assert told[0][4] == nearest(means[:250] + 0.05, means[:250], 1, anywhere).tolist()


def test_a_missing_faiss_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "genfast\[faiss\]".*index=\'torch\''):
        NeighbourIndex("flat", CPU)
    NeighbourIndex("torch", CPU)  # asked for


def test_importing_genfast_does_not_import_faiss() -> None:
    code = "import sys, genfast, genfast.models; assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
