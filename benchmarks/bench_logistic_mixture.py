"""logistic_mixture: log-likelihood against the published form, as the ports of PixelCNN++ have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COPY
from genfast.ops.logistic_mixture import Mode

BATCH, SIZE, MIXTURES = 16, 32, 10
REACH = {TRAINING: {"eager": 8.0, "torch.compile": 4.0}}


def published_form(params: Tensor, x: Tensor) -> Tensor:
    """log p of every pixel as published: every branch computed for every element, then chosen from."""
    logits, means, log_scales, x = _colour_components(params, x)
    centered, inverse = x - means, torch.exp(-log_scales)
    plus, minus, middle = (
        (centered + 1 / 255) * inverse,
        (centered - 1 / 255) * inverse,
        centered * inverse,
    )
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    inner = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), density)
    upper = torch.where(x > 0.999, -F.softplus(minus), inner)
    log_probs = torch.where(x < -0.999, plus - F.softplus(plus), upper)
    return torch.logsumexp(log_probs.sum(1) + F.log_softmax(logits, 1), 1)


def _colour_components(params: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits, rest = params[:, :MIXTURES], params[:, MIXTURES:]
    means, log_scales, coefficients = rest.unflatten(1, (3, 3, MIXTURES)).unbind(2)
    c, (red, green) = torch.tanh(coefficients), (x[:, :1], x[:, 1:2])
    moved = [means[:, 0], means[:, 1] + c[:, 0] * red, means[:, 2] + c[:, 1] * red + c[:, 2] * green]
    return logits, torch.stack(moved, 1), log_scales.clamp(min=-7), x[:, :, None]


def logistic_mixture_log_prob(device: str, quick: bool) -> Iterator[Case]:
    yield _log_prob(device, torch.float32, torch.contiguous_format, "reference", reach=True)
    if not quick:
        yield _log_prob(device, torch.float32, torch.contiguous_format, "exact")
        yield _log_prob(device, torch.float32, torch.channels_last, "reference")
        yield _log_prob(device, torch.bfloat16, torch.contiguous_format, "reference")


def _params(generator: torch.Generator) -> Tensor:
    """Like those of a trained model: scales of some levels."""
    params = torch.randn(BATCH, 10 * MIXTURES, SIZE, SIZE, generator=generator)
    params[:, MIXTURES:].unflatten(1, (3, 3, MIXTURES))[:, :, 1] -= 2
    return params


def _log_prob(
    device: str, dtype: torch.dtype, layout: torch.memory_format, mode: Mode, *, reach: bool = False
) -> Case:
    """Mode "reference" races the published form, "exact" the exact one as eager PyTorch has it."""
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    nbytes = BATCH * 10 * MIXTURES * SIZE * SIZE * dtype.itemsize
    bound = Bound(COPY, 1.0, "a copy of the same bytes")

    def inputs(generator: torch.Generator) -> Inputs:
        x = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), generator=generator) * (2 / 255) - 1
        params, x = (
            t.to(device, dtype).contiguous(memory_format=layout) for t in (_params(generator), x)
        )
        return params, x.view(bits)  # as bits: every input of a float type would be differentiated by

    def side(log_prob: Callable[[Tensor, Tensor], Tensor]) -> Side:
        return Side(lambda params, x: log_prob(params, x.view(dtype).to(params.dtype)))

    exact = partial(reference.logistic_mixture_log_prob, mode=mode)
    return Case(
        op="logistic_mixture_log_prob",
        variant=("channels-last" if layout == torch.channels_last else "NCHW") + f", {mode}",
        dtype=dtype,
        shape=(BATCH, 10 * MIXTURES, SIZE, SIZE),
        inputs=inputs,
        sides={
            "eager": side(published_form if mode == "reference" else exact),
            "genfast": side(partial(ops.logistic_mixture_log_prob, mode=mode)),
        },
        reference=side(exact),
        # Forward: read params. Backward: read them again and write their gradient.
        bytes={FORWARD: nbytes, TRAINING: 3 * nbytes},
        bound={FORWARD: bound, TRAINING: bound},
        reach=REACH if reach else {},
    )


def logistic_mixture_sample(device: str, quick: bool) -> Iterator[Case]:
    """Continuous draws: rounding may put a quantised one a level away, and the gate would refuse it."""

    def inputs(generator: torch.Generator) -> Inputs:
        uniforms = torch.rand(BATCH, 4, SIZE, SIZE, generator=generator).clamp(1e-5, 1 - 1e-5)
        return _params(generator).to(device), uniforms.to(device)

    eager = Side(partial(reference.logistic_mixture_sample, quantize=False))
    yield Case(
        op="logistic_mixture_sample",
        variant="NCHW, continuous",
        dtype=torch.float32,
        shape=(BATCH, 10 * MIXTURES, SIZE, SIZE),
        inputs=inputs,
        sides={
            "eager": eager,
            "genfast": Side(partial(ops.logistic_mixture_sample, quantize=False)),
        },
        reference=eager,
        directions=(FORWARD,),
        compile=not quick,
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "logistic_mixture_log_prob": logistic_mixture_log_prob,
    "logistic_mixture_sample": logistic_mixture_sample,
}
