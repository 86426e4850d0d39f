"""The cached means of all exemplars, in which the neighbours of a step's images are searched.

Over several processes each holds and searches a part, and all get the same neighbours.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from genfast.models.latent.neighbour_index import NeighbourIndex


class ExemplarCache:
    """Means (N, D) of exemplars 0 to N - 1, some of them out of date, and the step each was written in.

    Args:
        count, dims: N and D.
        kind: of the `NeighbourIndex`.
        device: of the means.
        group: processes that share the exemplars, each a part of equal size give or take one; None for
            one process. Then `refresh`, `search` and `gather` are collective.

    >>> cache = ExemplarCache(4, 1, "torch", torch.device("cpu"))
    >>> cache.refresh(torch.tensor([[0.0], [1.0], [3.0], [9.0]]), step=0)
    >>> cache.search(torch.tensor([[1.1]]), k=2, exclude=torch.tensor([1])).tolist()
    [[0, 2]]
    """

    def __init__(
        self, count: int, dims: int, kind: str, device: torch.device, group: Any = None
    ) -> None:
        self.count, self.device, self.group = count, device, group
        self.world = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)
        self.bounds = [count * r // self.world for r in range(self.world + 1)]
        #: The exemplars that this process holds.
        self.rows = range(self.bounds[self.rank], self.bounds[self.rank + 1])
        self.means = torch.zeros(len(self.rows), dims, device=device)
        self.written = torch.full((len(self.rows),), -1, dtype=torch.int64, device=device)
        self.index = NeighbourIndex(kind, device)
        #: Whether means were ever set; the same on all processes, also on one without exemplars.
        self.filled = False

    def refresh(self, means: Tensor, step: int) -> None:
        """Replace all means: those of this process's `rows`."""
        self.means.copy_(means)
        self.written.fill_(step)
        self.filled = True
        self.index.build(self.means, self._centre())

    def update(self, ids: Tensor, means: Tensor, step: int) -> None:
        """Replace the means of exemplars `ids` (n,), which may be any process's, by (n, D)."""
        mine = (ids >= self.rows.start) & (ids < self.rows.stop)
        rows = ids[mine] - self.rows.start
        self.means[rows] = means[mine]
        self.written[rows] = step
        self.index.replace(rows, means[mine])

    def search(
        self, queries: Tensor, k: int, *, exclude: Tensor | None = None, within: Tensor | None = None
    ) -> Tensor:
        """The k nearest exemplars of each query: ids (B, k), nearest first, -1 where there are less.

        Args:
            queries: (B, D), the same on all processes.
            exclude: (B,), an exemplar for each query that takes no place among its neighbours.
            within: (M,) distinct ids to search; all exemplars unless given.
        """
        mine = within
        if within is not None:
            mine = within[(within >= self.rows.start) & (within < self.rows.stop)] - self.rows.start
        # One more: without the excluded one, which can be but once among them, k are left.
        wanted = k if exclude is None else k + 1
        distances, rows = self.index.search(queries, wanted, mine)
        ids = rows.where(rows < 0, rows + self.rows.start)
        if self.world > 1:
            distances = torch.cat(self._all(distances), 1)
            ids = torch.cat(self._all(ids), 1)
        if exclude is not None:
            left_out = ids == exclude[:, None]
            distances, ids = distances.masked_fill(left_out, torch.inf), ids.masked_fill(left_out, -1)
        order = torch.sort(distances, dim=1, stable=True).indices[:, :k]
        return ids.gather(1, order)

    def gather(self) -> dict[str, Tensor]:
        """The whole cache, for a checkpoint: `means` (N, D), `written` (N,), what the index needs."""
        tensors = {"means": self.means, "written": self.written}
        if self.world > 1:
            tensors = {name: torch.cat(self._all_rows(part)) for name, part in tensors.items()}
        centre, centroids = self.index.centre, self.index.centroids
        tensors["centres"] = torch.stack(self._all(centre) if self.world > 1 else [centre])
        # Each process has lists of its own; several of them learn new ones where they go on.
        if centroids is not None and self.world == 1:
            tensors["centroids"] = centroids
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `gather` gave. Raises `KeyError` or `ValueError` if it does not fit."""
        means, written = tensors["means"], tensors["written"]
        if means.shape != (self.count, self.means.shape[1]) or written.shape != (self.count,):
            raise ValueError(f"the cache has shape {tuple(means.shape)}, not of {self.count} exemplars")
        part = slice(self.rows.start, self.rows.stop)
        self.means.copy_(means[part])
        self.written.copy_(written[part])
        self.filled = True
        centres = tensors["centres"].to(self.device)
        same_parts = len(centres) == self.world
        self.index.build(
            self.means,
            centres[self.rank] if same_parts else self._centre(),
            tensors.get("centroids") if same_parts and self.world == 1 else None,
        )

    def _centre(self) -> Tensor | None:
        """Over several processes, the mean of all exemplars: what is centred alike is rounded alike.

        So of two equal exemplars the first is the nearer one, whichever processes hold them.
        """
        if self.world == 1:
            return None
        total = self.means.sum(0)
        dist.all_reduce(total, group=self.group)
        return total / max(1, self.count)

    def _all(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape."""
        everyone = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(everyone, tensor.contiguous(), group=self.group)
        return everyone

    def _all_rows(self, part: Tensor) -> list[Tensor]:
        """The parts of all processes, which may differ in length by one."""
        lengths = [stop - start for start, stop in pairwise(self.bounds)]
        padded = part.new_zeros(max(lengths), *part.shape[1:])
        padded[: len(part)] = part
        return [whole[:n] for whole, n in zip(self._all(padded), lengths, strict=True)]
