"""Checkpoints: one safetensors file, its JSON description in the file's own header.

One file, renamed into place whole, so weights, optimiser, history and settings always belong
together. Loading reads numbers and JSON and never executes code.

Tensors are named `model.*`, `optimizer.<parameter number>.*`, `history.*` and `rng.*`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data.extras import require
from genfast.models import MODELS
from genfast.training.files import write_atomically

#: Name of the checkpoint in a run's folder.
CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "genfast-checkpoint-1"


class CheckpointError(ValueError):
    """A checkpoint is missing, cut short, foreign or does not fit; the message names the file."""


@dataclass
class Checkpoint:
    """What a checkpoint file holds: named tensors and a JSON description."""

    tensors: dict[str, Tensor]
    description: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with `prefix.`, without it."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under the names `prefix.*`, as `Checkpoint.part` finds them."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. Raises `OSError`; the previous file is then untouched."""
    # Copies: safetensors takes no views or shared storage.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.tensors.items()
    }
    header = {"format": _FORMAT, "description": json.dumps(checkpoint.description)}
    # To memory, then by our own write: safetensors' writes neither atomically nor with OSError.
    write_atomically(path, require("safetensors.torch").save(tensors, header))


def read_checkpoint(path: Path, prefix: str = "") -> Checkpoint:
    """Read a checkpoint, of its tensors only those whose name begins with `prefix`.

    Raises `CheckpointError` naming the file and what is wrong with it.
    """
    safetensors = require("safetensors")
    if not path.is_file():
        raise CheckpointError(f"{path}: not found")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                found = header.get("format", "no format")
                raise CheckpointError(f"{path}: not a checkpoint of genfast (header: {found})")
            # Cloned: the file is mapped, and a map dies with a file that is cut under it.
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name).clone() for name in names}
        description = json.loads(header["description"])
    except safetensors.SafetensorError as error:
        message = f"{path}: cut short or not a safetensors file ({error})"
        raise CheckpointError(message) from error
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: its description is damaged (not a JSON object)")
    return Checkpoint(tensors, description)


def describe_model(model: Any) -> dict[str, Any]:
    """The JSON description from which `build_model` makes the same model again."""
    names = {cls: name for name, cls in MODELS.items()}
    return {"name": names[type(model)], "config": model.config}


def build_model(checkpoint: Checkpoint) -> Any:
    """The model described in a checkpoint, with its weights.

    Raises `KeyError`, `TypeError`, `ValueError` or `RuntimeError` if they do not fit.
    """
    description = checkpoint.description["model"]
    model = MODELS[description["name"]](**description["config"])
    model.load_state_dict(checkpoint.part("model"))
    return model


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors and JSON values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for number, entries in state["state"].items():
        for key, value in entries.items():
            where = tensors if isinstance(value, Tensor) else values
            where[f"{number}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "values": values}


def unpack_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Load what `pack_optimizer` gave.

    Raises `KeyError`, `TypeError` or `ValueError` if it does not fit.
    """
    packed = checkpoint.description["optimizer"]
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**checkpoint.part("optimizer"), **packed["values"]}.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": packed["groups"]})
