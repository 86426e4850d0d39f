"""Two processes of one job that a test can talk to, and kill."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import forked
import torch
from torch.nn.parallel import DistributedDataParallel

from genfast.training import Processes


def two(work: Callable[..., None], *arguments: Any) -> tuple[list[BaseProcess], list[Connection]]:
    """Two processes joined by hand: torchrun would kill the one that is left when the other ends.

    Each calls work(tell, processes, *arguments); an error is told too, and ends it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [forked.context().Pipe(duplex=False) for _ in range(2)]
    both = [
        forked.context().Process(target=_joined, args=(rank, port, pipes[rank][1], work, *arguments))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    for _, writer in pipes:
        writer.close()
    return list(both), [reader for reader, _ in pipes]


def _joined(rank: int, port: int, told: Connection, work: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(shared, RANK=str(rank))
    try:
        with Processes.from_environment("cpu") as processes:
            work(told.send, processes, *arguments)
    except Exception as error:
        told.send(repr(error))
    # What holds on to a group that has ended keeps its threads, which abort or block the process's end.
    assert not any(type(held) is DistributedDataParallel for held in gc.get_objects())


def hear(reader: Connection) -> Any:
    """The next thing that a process tells."""
    assert reader.poll(60), "it still waits"
    return reader.recv()
