"""What each of several processes of test_rejection_sampler.py does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from genfast.sampling import DiscriminatorRejectionSampler, Ranks

SPREAD = 1.5


def generate(z: Tensor) -> Tensor:
    """p_g = N(0, 1.5^2)."""
    return SPREAD * z


def log_ratio(x: Tensor) -> Tensor:
    """log p_d / p_g for p_d = N(0, 1)."""
    return -(x[:, 0] ** 2) / 2 * (1 - 1 / SPREAD**2) + torch.tensor(SPREAD).log()


def rising(x: Tensor) -> Tensor:
    """A ratio without a largest value on the generator's samples: its running maximum keeps rising."""
    return x[:, 0]


def sample_in_ranks(rank: int, world: int, folder: str, settings: dict[str, Any]) -> None:
    """Samples twice, and writes what it got."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.set_num_threads(1)
    sampler = DiscriminatorRejectionSampler(generate, rising, 1, processes=Ranks(), **settings)
    sampler.burn_in(1000)
    parts = [*sampler.batches(301), *sampler.batches(400)]
    found = {
        "samples": torch.cat([part.samples for part in parts]),
        "numbers": torch.cat([part.numbers for part in parts]),
        "state": sampler.state,
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
