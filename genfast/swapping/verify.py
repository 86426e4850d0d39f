"""`genfast.verify`: the plain model and the swapped one side by side, on the user's machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from genfast.swapping import measuring
from genfast.swapping.proof import copied, ignored_taps
from genfast.swapping.swap import swap, unswap
from genfast.swapping.twin import Twin
from genfast.swapping.verification import Side, Verification


def verify(
    model: nn.Module, x: Any, *, original: nn.Module | None = None, seconds: float = 4.0
) -> Verification:
    """Prints the largest error and the speed-up that `genfast.swap` gives `model` on the input `x`.

    Compared are copies: the plain model, and the swapped one. If `model` was swapped already, the plain
    one is its copy swapped back. Hooks run. `model`, its gradients and the state of the generators stay
    as they are. Errors are against the plain model in fp64, with dropout off; gradients are those of a
    fixed random combination of the outputs; those at dead taps of a mask do not count, as they have no
    effect. Times are medians of runs in turn, in the mode that the model is in.

    Args:
        model: plain, or swapped.
        x: its input, or a tuple of its positional arguments.
        original: the plain model, for a `model` that was made fast by other means than `swap`. Its
            weights must be the same.
        seconds: how long to measure, about.

    Returns:
        The figures that were printed.

    Raises:
        TypeError: `model` or `original` is no nn.Module.
        ValueError: the model gives no floating-point tensor, the two give different numbers or shapes
            of outputs, or `seconds` is not positive.

    >>> import torch, genfast
    >>> from torch import nn
    >>> class Gate(nn.Module):
    ...     def forward(self, x):
    ...         a, b = x.chunk(2, 1)
    ...         return torch.tanh(a) * torch.sigmoid(b)
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), Gate())
    >>> result = genfast.verify(model, torch.randn(2, 1, 8, 8), seconds=0.1)  # doctest: +ELLIPSIS
    1 modules replaced; float32, cpu, ...
    >>> result.difference < 1e-6
    True
    """
    for name, module in (("model", model), ("original", original)):
        if not isinstance(module, nn.Module) and not (name == "original" and module is None):
            raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    inputs = tuple(x) if isinstance(x, tuple | list) else (x,)
    devices = _devices(model, inputs)
    with measuring.seeded(devices), torch.inference_mode(False), torch.enable_grad():
        result = _verified(model, inputs, original, seconds, devices)
    print(result)
    return result


def _verified(
    model: nn.Module,
    inputs: Sequence[Any],
    original: nn.Module | None,
    seconds: float,
    devices: Sequence[torch.device],
) -> Verification:
    plain, fast = copied(model if original is None else original), copied(model)
    unswap(plain)
    if original is None and not _twins(fast):
        swap(fast)
    ignored = ignored_taps(fast)
    results = {
        "plain": _results(plain, inputs, None, devices),
        "fast": _results(fast, inputs, None, devices),
    }
    try:
        with contextlib.ExitStack() as stack:
            for device in devices:
                stack.enter_context(torch.autocast(device.type, enabled=False))
            reference = _results(copied(plain).double(), inputs, torch.float64, devices)
        against = "float64"
    except (RuntimeError, TypeError, ValueError):  # the model makes tensors of another dtype itself
        reference, against = results["plain"], "the plain model"
    if [y.shape for y in results["plain"][0]] != [y.shape for y in results["fast"][0]]:
        raise ValueError("the two models give different numbers or shapes of outputs")
    sides = _timed({"plain": plain, "fast": fast}, inputs, seconds, devices)
    figures = {
        name: Side(*_errors(results[name], reference, ignored), *sides[name])
        for name in ("plain", "fast")
    }
    between = _errors(results["fast"], results["plain"], ignored)
    setting = f"{_dtype(fast, inputs)}, {', '.join(str(d) for d in devices)}"
    return Verification(
        plain=figures["plain"],
        fast=figures["fast"],
        difference=between[0],
        gradient_difference=between[2],
        replaced=_twins(fast),
        reference=against,
        setting=f"{setting}, {torch.get_num_threads()} threads",
    )


def _results(
    model: nn.Module, inputs: Sequence[Any], dtype: torch.dtype | None, devices: Sequence[torch.device]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs and gradients of a copy of the model without dropout, in fp64."""
    model = copied(model)
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    with measuring.seeded(devices):
        inputs = measuring.detached(inputs, dtype)
        outputs = measuring.outputs_of(model, inputs)
    if not outputs:
        raise ValueError("model(x) must give at least one floating-point tensor, and gives none")
    wanted = measuring.differentiable(model, inputs)
    got = measuring.gradients(outputs, _cotangents(outputs), wanted)
    return [y.detach().double() for y in outputs], {name: g.double() for name, g in got.items()}


def _cotangents(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Fixed random tensors, exact in every dtype, so that all models get the same."""
    generator = torch.Generator("cpu").manual_seed(0)
    draws = (torch.randint(-8, 9, y.shape, generator=generator, device="cpu") for y in outputs)
    return [(draw / 8).to(y) for draw, y in zip(draws, outputs, strict=True)]


def _errors(
    got: tuple[list[Tensor], dict[str, Tensor]],
    reference: tuple[list[Tensor], dict[str, Tensor]],
    ignored: Mapping[str, Tensor],
) -> tuple[float, float, float | None, float | None]:
    """Largest error of outputs, absolute and relative to the largest value, and of gradients."""
    names = sorted(got[1].keys() & reference[1].keys())
    gradients = [
        tuple(
            t.masked_fill(ignored[name], 0) if name in ignored else t
            for t in (got[1][name], reference[1][name])
        )
        for name in names
    ]
    largest = _largest(list(zip(got[0], reference[0], strict=True)))
    return *largest, *(_largest(gradients) if gradients else (None, None))


def _largest(pairs: Sequence[tuple[Tensor, ...]]) -> tuple[float, float]:
    """Of pairs (got, reference): the largest difference, and that over the largest reference.

    Over all of them, as a gradient that is zero up to rounding says nothing by itself.
    """
    filled = [pair for pair in pairs if pair[0].numel()]
    error = max(((a - b).abs().max().item() for a, b in filled), default=0.0)
    scale = max((b.abs().max().item() for _, b in filled), default=0.0)
    return error, error / scale if scale else error


def _timed(
    models: Mapping[str, nn.Module],
    inputs: Sequence[Any],
    seconds: float,
    devices: Sequence[torch.device],
) -> dict[str, tuple[float, float | None, float]]:
    """Of each model: ms of a forward, ms of a forward and backward, peak MiB."""
    forwards, trainings = [], []
    trained = True
    for model in models.values():
        own = measuring.detached(inputs)
        outputs = measuring.outputs_of(model, own)
        trained = trained and any(y.requires_grad for y in outputs)
        cotangents = _cotangents(outputs)
        wanted = measuring.differentiable(model, own)

        def forward(model: nn.Module = model, own: Sequence[Any] = own) -> None:
            with torch.no_grad():
                model(*own)

        def training(
            model: nn.Module = model,
            own: Sequence[Any] = own,
            cotangents: Sequence[Tensor] = cotangents,
            wanted: Mapping[str, Tensor] = wanted,
        ) -> None:
            measuring.gradients(measuring.outputs_of(model, own), cotangents, wanted)

        forwards.append(forward)
        trainings.append(training)
    share = seconds / 2 if trained else seconds
    forward_ms = measuring.median_times(forwards, share, devices)
    training_ms = (
        measuring.median_times(trainings, share, devices) if trained else [None for _ in models]
    )
    peaks = [measuring.peak_bytes(s, devices) / 2**20 for s in (trainings if trained else forwards)]
    return dict(zip(models, zip(forward_ms, training_ms, peaks, strict=True), strict=True))


def _twins(model: nn.Module) -> int:
    return sum(isinstance(m, Twin) and m.genfast_counts for m in model.modules())


def _devices(model: nn.Module, inputs: Sequence[Any]) -> list[torch.device]:
    tensors = [*model.parameters(), *(x for x in inputs if isinstance(x, Tensor))]
    return sorted({t.device for t in tensors}, key=str)


def _dtype(model: nn.Module, inputs: Sequence[Any]) -> str:
    tensors = [*model.parameters(), *(x for x in inputs if isinstance(x, Tensor))]
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()})
    return ", ".join(dtypes)
