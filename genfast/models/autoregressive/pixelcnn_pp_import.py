"""PixelCNN++ parameters in the layouts of the official TensorFlow code and of its PyTorch port.

Only names and layouts: each function takes and gives a flat dict. Read the file yourself, by a reader
that executes nothing: `torch.load(path, weights_only=True)`, `numpy.load(path, allow_pickle=False)`.

| | official (openai/pixel-cnn) | port (pclucas14/pixel-cnn-pp) | here |
|---|---|---|---|
| convolution | `conv2d_I/V` (kh, kw, in, out) | `*.conv.weight_v` | `*.weight_v` (out, in, kh, kw) |
| transposed | `deconv2d_I/V` (kh, kw, out, in) | `*.deconv.weight_v` | (in, out, kh, kw) |
| 1x1 | `dense_I/V` (in, out) | `*.lin_a.weight_v` (out, in) | (out, in, 1, 1) |
| gain, bias | `g`, `b` (out,) | `weight_g`, `bias` | `weight_g`, `bias` |
| class | `conditional_weights_I/hw` (classes, 2F) | - | `*.by_class.weight` |

The official code numbers each kind of layer in the order of execution. The port normalises a transposed
weight per *input* channel, so of those layers the weight is what carries over, not its direction and
gain: the function computed is the same, training goes on along another parametrisation. The port knows
neither classes nor any number of resolutions but three; its way down is named `up_layers`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genfast.models.autoregressive.pixelcnn_pp import PixelCNNPP

Kind = Literal["conv2d", "deconv2d", "dense", "conditional_weights"]

#: Our dimensions in the order of the official layout.
_OFFICIAL_ORDER = {"conv2d": (2, 3, 1, 0), "deconv2d": (2, 3, 1, 0), "dense": (1, 0)}

#: Variables of layers and their averages; a checkpoint also has those of the optimiser.
_OFFICIAL_NAME = re.compile(
    r"(model/)?(conv2d|deconv2d|dense|conditional_weights)_\d+/(V|g|b|hw)(/ExponentialMovingAverage)?$"
)


@dataclass(frozen=True)
class _Layer:
    """A layer's name here and in the port."""

    kind: Kind
    ours: str
    port: str


def from_official(
    arrays: Mapping[str, Any], model: PixelCNNPP, *, average: bool = False
) -> dict[str, Tensor]:
    """The state_dict of `model` from the official code's variables.

    Args:
        arrays: numpy arrays or tensors by variable name, with or without the scope `model/`.
        model: gives the architecture; its own weights are neither used nor changed.
        average: takes the exponential moving averages (`.../ExponentialMovingAverage`) instead.

    Raises:
        ValueError: a variable is missing, has another shape than the architecture's, or is of a layer
            that the architecture has not.

    >>> import genfast
    >>> from genfast.models.autoregressive.pixelcnn_pp_import import from_official, to_official
    >>> model = genfast.models.PixelCNNPP((1, 4, 4), levels=256, filters=4, resnets=1, resolutions=2)
    >>> arrays = to_official(model)
    >>> arrays["deconv2d_0/V"].shape
    (2, 3, 4, 4)
    >>> model.load_state_dict(from_official(arrays, model))
    <All keys matched successfully>
    """
    wanted = model.state_dict()
    suffix = "/ExponentialMovingAverage" if average else ""
    left = {name.removeprefix("model/"): a for name, a in arrays.items() if _OFFICIAL_NAME.match(name)}
    state: dict[str, Tensor] = {}
    for layer, number in _numbered(model):
        for key, name in _official_names(layer, number).items():
            theirs = _take(left, f"{name}{suffix}")
            left.pop(name, None)  # where the average is taken, the variable itself is there too
            order = _OFFICIAL_ORDER.get(layer.kind, ())
            if name.endswith("/V") and theirs.ndim == len(order):
                theirs = theirs.permute(*np.argsort(order).tolist())
            state[key] = _fitted(theirs, wanted[key], name)
    _check_all_taken(name for name in left if not name.endswith("Average"))
    return state


def to_official(model: PixelCNNPP) -> dict[str, np.ndarray[Any, Any]]:
    """The official code's variables from the weights of `model`, without the scope `model/`."""
    state = model.state_dict()
    arrays = {}
    for layer, number in _numbered(model):
        for key, name in _official_names(layer, number).items():
            ours = state[key].detach().cpu()
            if name.endswith("/V"):
                flat = ours.flatten(1) if layer.kind == "dense" else ours
                ours = flat.permute(*_OFFICIAL_ORDER[layer.kind])
            elif not name.endswith("/hw"):
                ours = ours.flatten()
            arrays[name] = ours.contiguous().numpy()
    return arrays


def from_port(tensors: Mapping[str, Any], model: PixelCNNPP) -> dict[str, Tensor]:
    """The state_dict of `model` from the state_dict of the PyTorch port.

    Args:
        tensors: tensors by name, with or without the prefix `module.` of nn.DataParallel.
        model: gives the architecture, without classes; its own weights are neither used nor changed.

    Raises:
        ValueError: a tensor is missing, has another shape than the architecture's, or is of a layer
            that the architecture has not; or `model` has classes.

    >>> import genfast
    >>> from genfast.models.autoregressive.pixelcnn_pp_import import from_port, to_port
    >>> model = genfast.models.PixelCNNPP((3, 4, 4), levels=256, filters=4, resnets=1)
    >>> tensors = to_port(model)
    >>> tensors["upsize_u_stream.0.deconv.weight_g"].shape
    torch.Size([4, 1, 1, 1])
    >>> model.load_state_dict(from_port(tensors, model))
    <All keys matched successfully>
    """
    _check_port(model)
    state = model.state_dict()
    left = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    for layer in _layers(model):
        for part in ("weight_v", "weight_g", "bias"):
            name, key = f"{layer.port}.{part}", f"{layer.ours}.{part}"
            wanted = state[key]
            if layer.kind == "deconv2d" and part == "weight_g":
                wanted = state[f"{layer.ours}.weight_v"][:, :1, :1, :1]
            state[key] = _fitted(_take(left, name), wanted, name)
        if layer.kind == "deconv2d":
            _renormalise(state, layer.ours, old=0, new=1)
    _check_all_taken(left)
    return state


def to_port(model: PixelCNNPP) -> dict[str, Tensor]:
    """The state_dict of the PyTorch port from the weights of `model`.

    Raises:
        ValueError: `model` has classes or other than three resolutions, which the port has not.
    """
    _check_port(model)
    if len(model.encoder) != 3:
        raise ValueError(f"model must have 3 resolutions for the port, got {len(model.encoder)}")
    ours = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        if layer.kind == "deconv2d":
            _renormalise(ours, layer.ours, old=1, new=0)
        for part in ("weight_v", "weight_g", "bias"):
            tensor = ours[f"{layer.ours}.{part}"]
            flat = layer.kind == "dense" and part != "bias"
            tensors[f"{layer.port}.{part}"] = tensor.flatten(1) if flat else tensor
    return tensors


def _layers(model: PixelCNNPP) -> Iterator[_Layer]:
    """Every layer in the order of execution, which is also that of the official numbers."""
    resnets, resolutions = model.config["resnets"], model.config["resolutions"]
    yield _Layer("conv2d", "first_u", "u_init.conv")
    yield _Layer("conv2d", "first_ul_above", "ul_init.0.conv")
    yield _Layer("conv2d", "first_ul_left", "ul_init.1.conv")
    for i in range(resolutions):
        if i:
            yield _Layer("conv2d", f"encoder.{i}.entry_u", f"downsize_u_stream.{i - 1}.conv")
            yield _Layer("conv2d", f"encoder.{i}.entry_ul", f"downsize_ul_stream.{i - 1}.conv")
        yield from _level(f"encoder.{i}", f"up_layers.{i}", resnets, model, shortcuts=("ul",))
    for i in range(resolutions):
        if i:
            yield _Layer("deconv2d", f"decoder.{i}.entry_u", f"upsize_u_stream.{i - 1}.deconv")
            yield _Layer("deconv2d", f"decoder.{i}.entry_ul", f"upsize_ul_stream.{i - 1}.deconv")
        count = resnets + 1 if i else resnets
        yield from _level(f"decoder.{i}", f"down_layers.{i}", count, model, shortcuts=("u", "ul"))
    yield _Layer("dense", "last", "nin_out.lin_a")


def _level(
    ours: str, port: str, resnets: int, model: PixelCNNPP, shortcuts: tuple[str, ...]
) -> Iterator[_Layer]:
    for i in range(resnets):
        for stream in ("u", "ul"):
            here, there = f"{ours}.{stream}.{i}", f"{port}.{stream}_stream.{i}"
            yield _Layer("conv2d", f"{here}.conv_in", f"{there}.conv_input.conv")
            if stream in shortcuts:
                yield _Layer("dense", f"{here}.shortcut", f"{there}.nin_skip.lin_a")
            yield _Layer("conv2d", f"{here}.conv_out", f"{there}.conv_out.conv")
            if model.num_classes:
                yield _Layer("conditional_weights", f"{here}.by_class", "")


def _numbered(model: PixelCNNPP) -> Iterator[tuple[_Layer, int]]:
    """Every layer with its number among those of its kind."""
    seen: Counter[Kind] = Counter()
    for layer in _layers(model):
        yield layer, seen[layer.kind]
        seen[layer.kind] += 1


def _official_names(layer: _Layer, number: int) -> dict[str, str]:
    """Variables of a layer: our name -> the official name."""
    scope = f"{layer.kind}_{number}"
    if layer.kind == "conditional_weights":
        return {f"{layer.ours}.weight": f"{scope}/hw"}
    parts = {"weight_v": "V", "weight_g": "g", "bias": "b"}
    return {f"{layer.ours}.{ours}": f"{scope}/{theirs}" for ours, theirs in parts.items()}


def _take(left: dict[str, Any], name: str) -> Tensor:
    """Takes the tensor `name` out of `left`."""
    if name not in left:
        raise ValueError(f"{name} is missing")
    return torch.as_tensor(left.pop(name)).detach()


def _check_all_taken(left: Iterable[str]) -> None:
    names = sorted(left)
    if names:
        raise ValueError(f"model has no place for {len(names)} of the layers' tensors, e.g. {names[0]}")


def _fitted(theirs: Tensor, wanted: Tensor, name: str) -> Tensor:
    """A copy of `theirs` in the shape of `wanted`, from which only sizes of 1 may be missing."""
    sizes = [[size for size in t.shape if size != 1] for t in (theirs, wanted)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name} must have shape {tuple(wanted.shape)} in the order of dimensions here, "
            f"sizes of 1 aside, got {tuple(theirs.shape)}"
        )
    return theirs.reshape(wanted.shape).to(wanted.device, wanted.dtype, copy=True).contiguous()


def _renormalise(state: dict[str, Tensor], layer: str, *, old: int, new: int) -> None:
    """Direction and gain of the same transposed weight, normalised along `new` instead of `old`."""
    direction, gain = state[f"{layer}.weight_v"], state[f"{layer}.weight_g"]

    def norm(t: Tensor, dim: int) -> Tensor:
        others = [d for d in range(t.ndim) if d != dim]
        size: Tensor = torch.linalg.vector_norm(t, dim=others, keepdim=True)
        return size

    weight = direction * (gain / norm(direction, old))
    state[f"{layer}.weight_v"] = weight
    state[f"{layer}.weight_g"] = norm(weight, new)


def _check_port(model: PixelCNNPP) -> None:
    if model.num_classes:
        raise ValueError(f"model must have no classes: the port has none, got {model.num_classes}")
