"""What `genfast eval` reports: a model's figures by name, and those of models that learned little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genfast.data import ImageData, Split
from genfast.training.distributed import Processes
from genfast.training.estimates import OTHER_UNITS, Evaluation
from genfast.training.evaluate import baselines, evaluate
from genfast.training.importance_score import ImportanceScore
from genfast.training.model_images import validation_score


@dataclass(frozen=True)
class Figures:
    """`rows` by name, and the standard error of one image's estimate in nats, if it is one."""

    rows: dict[str, Evaluation]
    sampling_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All rows as JSON values."""
        values = {name: figure.to_dict() for name, figure in self.rows.items()}
        if self.sampling_error is not None:
            values[IMPORTANCE]["sampling_error"] = self.sampling_error
        return values


IMPORTANCE = "importance-sampled log-likelihood"


def measure(
    model: Any,
    data: ImageData,
    split: Split,
    processes: Processes,
    *,
    batch_size: int = 64,
    importance_samples: int | None = None,
    seed: int = 0,
) -> Figures:
    """The figures of `model` on `split`; on ranks other than 0 they are its alone, without baselines.

    A variational autoencoder has its ELBO and, with `importance_samples`, the estimate from so many; any
    other model its exact likelihood or what it has instead. Baselines come with likelihoods that are
    probabilities of the images' levels.

    Raises `ValueError` if the model takes no importance samples.
    """
    sampler = None if importance_samples is None else ImportanceScore(model, importance_samples)
    bound = hasattr(model, "elbo")
    scores: dict[str, Any] = {"ELBO" if bound else "model": validation_score(model)}
    if sampler is not None:
        scores[IMPORTANCE] = sampler
    rows = {
        name: evaluate(
            model,
            split,
            labels=model.num_classes > 0,
            batch_size=batch_size,
            processes=processes,
            progress=True,
            score=score,
            seed=seed,
        )
        for name, score in scores.items()
    }
    error = None if sampler is None else sampler.standard_error(processes)
    comparable = model.unit not in OTHER_UNITS and getattr(model, "discrete", True)
    if processes.is_main and comparable:
        rows |= baselines(data, split, model.num_classes, model.unit)
    return Figures(rows, error)
