"""The step of players with an optimiser each, and their loss on held-out images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genfast.data import Split
from genfast.models.adversarial import AdversarialModel
from genfast.models.adversarial.image_pool import ImagePool
from genfast.sampling.modes import evaluating
from genfast.training.batches import Part
from genfast.training.checkpoint import part_of, prefixed
from genfast.training.config import TrainConfig
from genfast.training.distributed import Processes
from genfast.training.estimates import Moments
from genfast.training.images import to_unit
from genfast.training.objectives import NotFinite, StepFigures
from genfast.training.optimisers import make_optimiser, pack_state, unpack_state
from genfast.training.schedules import factor
from genfast.training.settings import ConfigError
from genfast.training.turns import in_turn

_TURN = 0x9E3779B97F4A7C15  # odd: the turns of a part draw their noise by seeds far apart


class AdversarialStep:
    """In their turns, each player descends its own loss over its own weights.

    Gradients are summed over the parts and processes; DistributedDataParallel, which takes one loss over
    all weights, has no part in this. Running statistics of batch normalisation are averaged over the
    processes after every step, so that all have the same model; the statistics that normalise in
    training are those of a part. Image pools are each process's own.
    """

    def __init__(
        self, model: AdversarialModel, config: TrainConfig, processes: Processes, total_steps: int
    ) -> None:
        if config.early_stopping and model.LEADER == "discriminator":
            raise ConfigError(
                f"early_stopping: must be 0 for {config.model}: its validation loss is the "
                "discriminator's, which says nothing of the samples"
            )
        if config.compile:
            try:
                model.compile_players()
            except ValueError as error:
                raise ConfigError(f"compile: {error}") from error
        self.model, self.config, self.processes = model, config, processes
        self.total_steps = total_steps
        self.weights = {player: model.player_weights(player) for player in model.PLAYERS}
        self.optimizers = {
            player: make_optimiser(config, weights) for player, weights in self.weights.items()
        }
        self._step = 0
        self._shared = _running_statistics(model) if processes.world_size > 1 else []

    def __call__(self, parts: Sequence[Part]) -> StepFigures:
        """Let the players move that are due.

        Raises `NotFinite`, on all processes at once; players that moved before it have moved.
        """
        self.model.train()
        rate, model = self.learning_rate, self.model
        norms, losses = {}, {}
        for turn, player in enumerate(model.turns(self._step)):
            model.before_turn(player)
            losses[player], norms[player] = self._move(player, turn, parts, rate)
        self._average_statistics()
        self._step += 1
        return StepFigures(losses[model.LEADER], norms[model.LEADER], rate, losses)

    @property
    def learning_rate(self) -> float:
        """That of the next step, for all players."""
        return self.config.lr * factor(self.config, self._step, self.total_steps)

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the steps so far have gathered, as named tensors and JSON values."""
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {}
        for player, optimizer in self.optimizers.items():
            gathered, values[player] = pack_state(optimizer)
            tensors.update(prefixed(player, gathered))
        tensors.update(self._pools_of_others())
        return tensors, values

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any], step: int) -> None:
        """Go on after `step` steps with what `pack` gave.

        Raises `KeyError`, `TypeError`, `ValueError` or `RuntimeError` if it does not fit.
        """
        if set(values) != set(self.optimizers):
            raise ValueError(f"the optimisers are of {sorted(values)}, not {sorted(self.optimizers)}")
        for player, optimizer in self.optimizers.items():
            unpack_state(optimizer, part_of(tensors, player), values[player])
        saved = 1
        while part_of(tensors, _of_process(saved)):
            saved += 1
        if (source := self.processes.rank % saved) > 0:
            own = part_of(tensors, _of_process(source))
            for name, pool in _image_pools(self.model).items():
                pool.load_state_dict(part_of(own, name))
        self._step = step

    def settle(self, *models: Any) -> None:
        """Nothing: weights are ready as they are."""

    def _pools_of_others(self) -> dict[str, Tensor]:
        """On rank 0, the image pools of the other processes; its own are the model's."""
        pools = _image_pools(self.model)
        if not pools:
            return {}
        own: dict[str, Tensor] = {}
        if not self.processes.is_main:
            for name, pool in pools.items():
                own.update(prefixed(name, {key: t.cpu() for key, t in pool.state_dict().items()}))
        found: dict[str, Tensor] = {}
        for rank, tensors in enumerate(self.processes.gather(own) or []):
            found.update(prefixed(_of_process(rank), tensors))
        return found

    def _move(self, player: str, turn: int, parts: Sequence[Part], rate: float) -> tuple[float, float]:
        """One player's update -> its loss and the norm of its gradient before clipping."""
        weights, optimizer = self.weights[player], self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        total = sum(self._backward(player, turn, part) for part in parts)
        assert isinstance(total, Tensor)
        loss = self.processes.all_reduce_sum(total).item()
        if not math.isfinite(loss):
            raise NotFinite(f"the loss of the {player} became {loss}")
        self._sum_gradients(weights)
        most = math.inf if self.config.clip_norm is None else self.config.clip_norm
        norm = nn.utils.clip_grad_norm_(weights, most).item()
        if not math.isfinite(norm):
            raise NotFinite(f"the norm of the {player}'s gradient became {norm}")
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return loss, norm

    def _backward(self, player: str, turn: int, part: Part) -> Tensor:
        """Add the gradients of a part -> its share of the player's loss."""
        kind = self.processes.device.type
        torch.manual_seed((part.seed + turn * _TURN) % 2**63)
        with torch.autocast(kind, torch.bfloat16, enabled=self.config.precision == "bf16"):
            images = to_unit(part.images, self.model.levels)
            loss = self.model.player_loss(player, images, part.labels)
        # The other players' weights are left out: a generator learns nothing for the discriminator.
        (loss * part.share).backward(inputs=self.weights[player])
        return loss.detach().double() * part.share

    def _sum_gradients(self, weights: list[nn.Parameter]) -> None:
        if self.processes.world_size > 1:
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            _replace(gradients, self.processes.all_reduce_sum(_flat(gradients)))

    def _average_statistics(self) -> None:
        if self._shared:
            _replace(self._shared, self.processes.all_reduce_mean(_flat(self._shared)))


def _of_process(rank: int) -> str:
    """What the names of the tensors that are that process's own begin with."""
    return f"process-{rank}"


def _image_pools(model: nn.Module) -> dict[str, ImagePool]:
    return {name: module for name, module in model.named_modules() if isinstance(module, ImagePool)}


def _running_statistics(model: nn.Module) -> list[Tensor]:
    return [
        statistic
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for statistic in (module.running_mean, module.running_var)
        if statistic is not None
    ]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def _replace(tensors: Sequence[Tensor], flat: Tensor) -> None:
    for tensor, new in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(new.view_as(tensor))


def held_out(
    model: AdversarialModel,
    split: Split,
    *,
    labels: bool = False,
    batch_size: int = 64,
    processes: Processes | None = None,
    seed: int = 0,
) -> Moments:
    """The mean of `model.held_out_loss` over the images of `split`, in evaluation mode.

    As `evaluate`: the same for any number of processes, its noise keyed by `seed` and the batch.

    >>> from genfast.data import load
    >>> from genfast.models import GAN
    >>> digits = load("digits")
    >>> held_out(GAN(digits.image_shape, digits.levels, hidden=8), digits.test).count
    299
    """
    device = next(model.parameters()).device

    def measure(start: int) -> Moments:
        part = slice(start, start + batch_size)
        images = to_unit(split.images[part].to(device), model.levels)
        given = split.labels[part].to(device) if labels and split.labels is not None else None
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(seed + start)
            return Moments(len(images), model.held_out_loss(images, given).item())

    with evaluating(model):
        parts: Iterable[Moments] = in_turn(range(0, len(split), batch_size), measure, processes)
        moments = Moments.merged(parts)
    return moments if processes is None else processes.broadcast(moments)
