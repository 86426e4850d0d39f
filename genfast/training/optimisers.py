"""Optimisers by name, with the settings that each of them has; all are torch's own but one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from genfast.training.config import TrainConfig


class AdamNormGrad(torch.optim.Adam):
    """Adam on gradients that are each divided by their norm, a tensor at a time (+ 1e-7).

    As the VampPrior VAE (Tomczak and Welling 2018) and the Exemplar VAE are trained.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> optimiser = AdamNormGrad([weight], lr=0.1)
    >>> weight.grad = torch.tensor([3e6, 4e6])
    >>> optimiser.step()
    >>> [round(value, 3) for value in optimiser.state[weight]["exp_avg"].tolist()]  # 0.1 * (0.6, 0.8)
    [0.06, 0.08]
    """

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad.div_(weight.grad.norm() + 1e-7)
        return super().step(closure)


@dataclass(frozen=True)
class Optimiser:
    """torch's class and the names of the settings, apart from `lr`, that reach it."""

    make: type[torch.optim.Optimizer]
    settings: tuple[str, ...]


_ADAM = ("beta1", "beta2", "eps", "weight_decay")

OPTIMISERS = {
    "adam": Optimiser(torch.optim.Adam, _ADAM),
    "adamw": Optimiser(torch.optim.AdamW, _ADAM),
    "adam-norm-grad": Optimiser(AdamNormGrad, _ADAM),
    "adamax": Optimiser(torch.optim.Adamax, _ADAM),
    "rmsprop": Optimiser(torch.optim.RMSprop, ("alpha", "eps", "momentum", "weight_decay")),
    "sgd": Optimiser(torch.optim.SGD, ("momentum", "weight_decay")),
    "adagrad": Optimiser(torch.optim.Adagrad, ("eps", "weight_decay")),
}

_BETAS = {"beta1": 0.9, "beta2": 0.999}  # the defaults of torch and of the paper


def make_optimiser(config: TrainConfig, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that `config` asks for; what it leaves None gets torch's default.

    >>> from genfast.training import TrainConfig
    >>> config = TrainConfig(optimizer="adam", lr=1e-3, beta2=0.9995)
    >>> make_optimiser(config, [nn.Parameter(torch.zeros(2))]).defaults["betas"]
    (0.9, 0.9995)
    """
    chosen = OPTIMISERS[config.optimizer]
    given = {name: getattr(config, name) for name in chosen.settings}
    arguments = {name: value for name, value in given.items() if value is not None}
    if "beta1" in given:
        arguments["betas"] = tuple(arguments.pop(name, usual) for name, usual in _BETAS.items())
    make: Any = chosen.make
    optimiser: torch.optim.Optimizer = make(weights, lr=config.lr, **arguments)
    return optimiser


def pack_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the optimiser has gathered, as named tensors and JSON values.

    Names are `<number of the parameter>.<key>`. Its settings are left out: `TrainConfig` has them.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for number, entries in optimiser.state_dict()["state"].items():
        for key, value in entries.items():
            where = tensors if isinstance(value, Tensor) else values
            where[f"{number}.{key}"] = value
    return tensors, {"tensors": sorted(tensors), "values": values}


def unpack_state(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], packed: dict[str, Any]
) -> None:
    """Load what `pack_state` gave.

    Raises `KeyError`, `TypeError` or `ValueError` if it does not fit the parameters.
    """
    if packed["tensors"] != sorted(tensors):
        raise ValueError("the optimiser's state is not complete")
    groups = optimiser.state_dict()["param_groups"]
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **packed["values"]}.items():
        number, _, key = name.partition(".")
        if not number.isdecimal() or int(number) >= len(weights):
            raise ValueError(f"optimiser state {name!r} is of no parameter")
        shape = weights[int(number)].shape
        if isinstance(value, Tensor) and value.ndim and value.shape != shape:
            raise ValueError(
                f"optimiser state {name} has shape {tuple(value.shape)}, not {tuple(shape)}"
            )
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})
