"""Starts the command as the ranks of one job, in the way torchrun does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def run_ranks(world: int, arguments: list[str]) -> list[str]:
    """`genfast arguments` on `world` processes of the CPU -> what each wrote to standard output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "genfast", *arguments, "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # One thread, as in the tests' own process: sums in other orders give other bits.
            env={**os.environ, **job, "RANK": str(r), "LOCAL_RANK": str(r), "OMP_NUM_THREADS": "1"},
        )
        for r in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * world, outputs
    return [out for out, _ in outputs]
