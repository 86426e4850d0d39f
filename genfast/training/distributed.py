"""The processes of one job: alone, or started together by `torchrun`.

The same program serves both: without torchrun there is one process, no process group, and every
method does the obvious thing at no cost.
"""

from __future__ import annotations

import datetime
import gc
import os
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")

DEVICES = ("auto", "cpu", "cuda")

# Rank 0 draws samples and writes files while the others wait for it.
_TIMEOUT = datetime.timedelta(hours=1)


class Processes:
    """This process among those of its job; made by `Processes.from_environment`.

    A context manager: leaving it ends the process group, so that the others learn of an error here. What
    holds on to the group (a wrapped model) gives `before_end` a function that lets it go.
    Every method but the constructor is collective: all processes call it, in the same order.

    >>> with Processes.from_environment("cpu") as processes:
    ...     processes.rank, processes.world_size, processes.is_main, processes.gather("mine")
    (0, 1, True, ['mine'])
    """

    def __init__(self, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self._releases: list[Callable[[], None]] = []

    @classmethod
    def alone(cls, device: str = "auto") -> Processes:
        """One process, whatever torchrun may say. Raises `ValueError`."""
        return cls(pick_device(device))

    @classmethod
    def from_environment(cls, device: str = "auto") -> Processes:
        """What torchrun's variables RANK, WORLD_SIZE and LOCAL_RANK say, or one process alone.

        `device`: "cpu" (processes talk through gloo), "cuda" (NCCL, one GPU for each local rank) or
        "auto", which is cuda where there is any. Raises `ValueError`.
        """
        rank, world_size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        chosen = pick_device(device, _number("LOCAL_RANK", 0))
        if world_size > 1:
            on_cuda = chosen.type == "cuda"
            if on_cuda:
                torch.cuda.set_device(chosen)
            # gloo as well as NCCL: what is on the CPU travels without touching a GPU.
            dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=_TIMEOUT)
        return cls(chosen, rank, world_size)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.broadcast(self.gather(None))

    def gather(self, value: Value) -> list[Value] | None:
        """The values of all processes in rank order, on rank 0; None on the others."""
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every process."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, the same bits on every one; `tensor` stays as it is."""
        total = tensor.detach().clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def all_reduce_mean(self, tensor: Tensor) -> Tensor:
        """The mean of the processes' tensors, the same bits on every one."""
        return self.all_reduce_sum(tensor) / self.world_size

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set on any process: all decide the same."""
        if self.world_size == 1:
            return list(flags)
        counts = self.all_reduce_sum(torch.tensor(flags, dtype=torch.int64))
        return [count > 0 for count in counts.tolist()]

    def on_main(self, work: Callable[[], Value]) -> Value:
        """Do `work` on rank 0 -> its value, on every process; what it raises is raised on all."""
        if self.world_size == 1:
            return work()
        value, error = None, None
        if self.is_main:
            try:
                value = work()
            except BaseException as raised:  # KeyboardInterrupt too: the others wait for an answer
                error = raised
        value, error = self.broadcast((value, error))
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def __enter__(self) -> Processes:
        return self

    def before_end(self, release: Callable[[], None]) -> None:
        """Call `release` before the process group ends; not collective."""
        self._releases.append(release)

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        if self.world_size == 1 or not dist.is_initialized():
            return
        # A group that is still held ends with the interpreter, which its threads can abort or block.
        traceback.clear_frames(trace)
        for release in self._releases:
            release()
        gc.collect()
        dist.destroy_process_group()


def pick_device(device: str, local_rank: int = 0) -> torch.device:
    """The device that a process should use. Raises `ValueError` if it is not there.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device not in DEVICES:
        raise ValueError(f"device: must be one of {', '.join(DEVICES)}, got {device!r}")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ValueError(
            f"device: process {local_rank} of this machine needs a CUDA device of its own, "
            f"but there are {count}; use fewer processes or the device cpu"
        )
    return torch.device("cuda", local_rank)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ValueError(f"{variable}: must be a number, as torchrun sets it, got {text!r}")
    return int(text)
