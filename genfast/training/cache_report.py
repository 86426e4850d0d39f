"""How good the cache of an Exemplar VAE's run is: hits, staleness, recall of its search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.models.latent.neighbour_index import NeighbourIndex
from genfast.training.batches import Batches
from genfast.training.exemplar_step import ExemplarStep
from genfast.training.trainer import Trainer


@dataclass(frozen=True)
class CacheReport:
    """Of the cache as the next step of the run finds it.

    `hit_rate` is the share of the k nearest exemplars by their current means that a search of the cached
    ones finds; `recall` the share of the k nearest cached ones that the index finds, 1 for an exact
    index. `age` is how many steps ago the mean exemplar was written, `oldest` the oldest one;
    `moved` the root mean square distance of cached and current means, in standard deviations of the
    prior's components. `union` is the share of all exemplars that a step re-encodes.
    """

    images: int
    neighbours: int
    hit_rate: float
    recall: float
    age: float
    oldest: int
    moved: float
    union: float

    def describe(self) -> str:
        """In words."""
        return (
            f"cache, for the {self.neighbours} neighbours of {self.images} images:\n"
            f"  hit rate {self.hit_rate:.2%} (of the nearest by current means, found by cached ones)\n"
            f"  recall {self.recall:.2%} (of the nearest cached ones, found by the index)\n"
            f"  written {self.age:.0f} steps ago (mean), {self.oldest} (oldest)\n"
            f"  moved since by {self.moved:.2f} standard deviations of a component (root mean square)\n"
            f"  a step re-encodes {self.union:.2%} of the exemplars"
        )


def report_cache(run_dir: str | Path, steps: int = 10, **changes: Any) -> CacheReport | None:
    """The report for the images of the next `steps` steps of a run; None if it keeps no cache yet.

    Nothing of the run is changed; `changes` and errors are those of `Trainer.resume`.
    """
    trainer = Trainer.resume(run_dir, quiet=True, **{"device": "cpu", **changes})
    step = trainer.objective
    if not isinstance(step, ExemplarStep) or step.cache is None or not step.cache.filled:
        return None
    cache, model, batches = step.cache, trainer.model.eval(), trainer.batches
    epoch = max(0, step.step - 1) // batches.steps_per_epoch
    current = step.encoded(cache.rows, epoch)
    ids = _next_images(batches, step.step, steps)
    queries, k = current[ids], model.neighbours
    found = cache.search(queries, k, exclude=ids)
    sizes = [len(part.unique()) for part in found.split(trainer.config.batch_size)]
    scale = (0.5 * model.prior_log_variance).exp().item()
    return CacheReport(
        images=len(ids),
        neighbours=k,
        hit_rate=_shared(found, _exact(current, queries, k, ids)),
        recall=_shared(found, _exact(cache.means, queries, k, ids)),
        age=(step.step - cache.written).double().mean().item(),
        oldest=int((step.step - cache.written).max()),
        moved=(current - cache.means).square().sum(1).mean().sqrt().item() / scale,
        union=sum(sizes) / len(sizes) / cache.count,
    )


def _next_images(batches: Batches, step: int, steps: int) -> Tensor:
    return torch.cat([torch.from_numpy(batches.index(step + i)) for i in range(steps)])


def _exact(means: Tensor, queries: Tensor, k: int, exclude: Tensor) -> Tensor:
    """The k nearest rows of `means`, `exclude` left out: (B, k)."""
    index = NeighbourIndex("torch", means.device)
    index.build(means)
    rows = index.search(queries, k + 1)[1]
    # Those left out go to the end, the others stay in their order.
    order = torch.sort((rows == exclude[:, None]).long(), dim=1, stable=True).indices
    return rows.gather(1, order)[:, :k]


def _shared(found: Tensor, expected: Tensor) -> float:
    """The share of `expected` (B, k) that is in the same row of `found`."""
    return (found[:, :, None] == expected[:, None]).any(1).double().mean().item()
