"""What one step of training is: a loss, its gradients over all processes, an update of the weights.

`LikelihoodStep` trains a model that has one `loss`, which may have terms of its own (`LatentStep`).
Another way to train is another class with the members of `Objective`, as `AdversarialStep` is, for
players with an optimiser each. `genfast.training.steps.make_step` chooses.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genfast.training.batches import Part
from genfast.training.config import TrainConfig
from genfast.training.distributed import Processes
from genfast.training.model_images import to_model
from genfast.training.optimisers import make_optimiser, pack_state, unpack_state
from genfast.training.schedules import make_schedule


class NotFinite(ArithmeticError):
    """A loss or gradient is NaN or infinite; the weights are still those of the step before."""


@dataclass(frozen=True)
class StepFigures:
    """What a step measured: the mean loss of its images, the norm of its gradient before clipping.

    `players` has the loss of each player that moved, of a model with several.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    players: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """A way to train: called with the parts of a step, it does the whole of it."""

    def __call__(self, parts: Sequence[Part]) -> StepFigures:
        """Take one step. Raises `NotFinite`, on all processes at once."""

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the steps so far have gathered, as named tensors and JSON values; on rank 0, all of it.

        All processes call it.
        """

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any], step: int) -> None:
        """Go on after `step` steps with what `pack` gave."""

    def settle(self, *models: Any) -> None:
        """Make `models` (that of the run, its average) ready to be evaluated or saved.

        All processes call it.
        """


class LikelihoodStep:
    """Gradient descent on `model.loss`, averaged over the images of the step on all processes."""

    def __init__(self, model: Any, config: TrainConfig, processes: Processes, total_steps: int) -> None:
        self.model, self.config, self.processes = model, config, processes
        self.optimizer = make_optimiser(config, model.parameters())
        self.scheduler = make_schedule(config, self.optimizer, total_steps)
        self._loss: nn.Module = _Loss(model, config.compile)
        if processes.world_size > 1:
            on_cuda = processes.device.type == "cuda"
            self._loss = DistributedDataParallel(
                self._loss, device_ids=[processes.device] if on_cuda else None
            )
            processes.before_end(self._unwrap)

    def __call__(self, parts: Sequence[Part]) -> StepFigures:
        """Take one step. Raises `NotFinite`, on all processes at once, and then changes nothing."""
        config = self.config
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = sum(self._backward(part, part is parts[-1]) for part in parts)
        assert isinstance(total, Tensor)
        loss = self.processes.all_reduce_sum(total).item()
        if not math.isfinite(loss):
            raise NotFinite(f"the loss became {loss}")
        most = math.inf if config.clip_norm is None else config.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), most).item()
        if not math.isfinite(norm):
            raise NotFinite(f"the norm of the gradient became {norm}")
        rate = self.learning_rate
        self.optimizer.step()
        self.scheduler.step()
        return StepFigures(loss, norm, rate)

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the steps so far have gathered, as named tensors and JSON values."""
        return pack_state(self.optimizer)

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any], step: int) -> None:
        """Go on after `step` steps with what `pack` gave.

        Raises `KeyError`, `TypeError`, `ValueError` or `RuntimeError` if it does not fit.
        """
        unpack_state(self.optimizer, tensors, values)
        self.scheduler.load_state_dict({**self.scheduler.state_dict(), "last_epoch": step})
        rates = self.scheduler.base_lrs
        for group, base, course in zip(
            self.optimizer.param_groups, rates, self.scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * course(step)

    def settle(self, *models: Any) -> None:
        """Nothing: weights are ready as they are."""

    def terms(self, part: Part) -> dict[str, Any]:
        """What else `model.loss` is given for this part, by name."""
        return {}

    def _unwrap(self) -> None:
        if isinstance(self._loss, DistributedDataParallel):
            self._loss = self._loss.module

    def _backward(self, part: Part, last: bool) -> Tensor:
        """Add the gradients of a part -> its share of the step's loss."""
        device, processes = self.processes.device, self.processes
        torch.manual_seed(part.seed)
        with _traffic(self._loss, last):
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                loss: Tensor = self._loss(part.images, part.labels, **self.terms(part))
            # DDP takes the mean over the processes; what is wanted is the sum of the shares.
            (loss * (part.share * processes.world_size)).backward()
        return loss.detach().double() * part.share


@contextlib.contextmanager
def _traffic(module: nn.Module, last: bool) -> Iterator[None]:
    """Gradients travel between processes once a step, with the last part."""
    if not isinstance(module, DistributedDataParallel):
        yield
        return
    with contextlib.nullcontext() if last else module.no_sync(), warnings.catch_warnings():
        # So are those of 1x1 convolutions in channels-last; the copy that follows is a small one.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


class _Loss(nn.Module):
    """`model.loss` as a forward: all that DistributedDataParallel and torch.compile look at."""

    def __init__(self, model: Any, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self._compute = torch.compile(model.loss) if compiled else model.loss

    def forward(self, images: Tensor, labels: Tensor | None, **terms: Any) -> Tensor:
        loss: Tensor = self._compute(to_model(self.model, images), labels, **terms)
        return loss
