"""Processes at work on one stream of proposals."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """This process among those of a process group: `torch.distributed`'s default, or one given.

    >>> from genfast.sampling.processes import alone
    >>> ranks = alone()
    >>> ranks.part(10, 14), ranks.gather(3.0)
    ((10, 14), [3.0])
    """

    def __init__(
        self, group: dist.ProcessGroup | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self._group, self._device = group, torch.device(device)
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)

    def part(self, low: int, high: int) -> tuple[int, int]:
        """This process's part of the numbers low ... high - 1: contiguous, in the order of the ranks."""
        size = high - low
        return low + size * self.rank // self.count, low + size * (self.rank + 1) // self.count

    def gather(self, value: float) -> list[float]:
        """What every process gave, in the order of the ranks. Whole numbers are exact up to 2^53."""
        mine = torch.tensor([value], dtype=torch.float64, device=self._device)
        values = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(values, mine, group=self._group)
        return torch.cat(values).tolist()

    def sum(self, counts: Tensor) -> Tensor:
        """The sum over all processes."""
        total = counts.to(self._device, copy=True)
        dist.all_reduce(total, group=self._group)
        return total.cpu()


class _Alone(Ranks):
    """One process, without a group."""

    def __init__(self) -> None:
        self.rank, self.count = 0, 1

    def gather(self, value: float) -> list[float]:
        return [value]

    def sum(self, counts: Tensor) -> Tensor:
        return counts


def alone() -> Ranks:
    """One process, without a group."""
    return _Alone()
