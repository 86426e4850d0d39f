"""Checkpoints: one safetensors file, its JSON description in the file's own header.

One file, renamed into place whole, so weights, optimiser, history and settings always belong
together. Loading reads numbers and JSON and never executes code.

Tensors are named `model.*`, `ema.*` (the averaged weights, if there are any), `objective.*` (what the
optimiser has gathered) and `history.*`. The step number, which is the length of the history, is the
position in the data order and in the schedule and the seed of all noise; early stopping is decided from
the history. So nothing else has to be kept.
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
#: Name of the one with the best weights, in a run with early stopping.
BEST = "best.safetensors"
_FAMILY = "genfast-checkpoint-"
_FORMAT = f"{_FAMILY}2"


class CheckpointError(ValueError):
    """A checkpoint is missing, cut short, foreign or does not fit; the message names the file."""


@dataclass
class Checkpoint:
    """What a checkpoint file holds: named tensors and a JSON description."""

    tensors: dict[str, Tensor]
    description: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with `prefix.`, without it."""
        return part_of(self.tensors, prefix)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under the names `prefix.*`, as `part_of` finds them."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What `prefixed` was given, from among `tensors`."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


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
            _check_format(path, header.get("format", "no format"))
            # Cloned: the file is mapped, and a map dies with a file that is cut under it.
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name).clone() for name in names}
        description = json.loads(header["description"])
    except safetensors.SafetensorError as error:
        message = f"{path}: cut short or not a safetensors file ({error})"
        raise CheckpointError(message) from error
    except (KeyError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: its description is damaged (not a JSON object)")
    return Checkpoint(tensors, description)


def _check_format(path: Path, found: str) -> None:
    if found == _FORMAT:
        return
    if found.startswith(_FAMILY):
        raise CheckpointError(
            f"{path}: written by another version of genfast: its format is {found}, "
            f"this version reads {_FORMAT}"
        )
    raise CheckpointError(f"{path}: not a checkpoint of genfast (header: {found})")


def describe_model(model: Any) -> dict[str, Any]:
    """The JSON description from which `build_model` makes the same model again."""
    names = {cls: name for name, cls in MODELS.items()}
    return {"name": names[type(model)], "config": model.config}


def build_model(checkpoint: Checkpoint) -> Any:
    """The model described in a checkpoint, with its weights, averaged ones where there are any.

    Raises `KeyError`, `TypeError`, `ValueError` or `RuntimeError` if they do not fit.
    """
    description = checkpoint.description["model"]
    model = MODELS[description["name"]](**description["config"])
    model.load_state_dict(checkpoint.part("ema") or checkpoint.part("model"))
    return model
