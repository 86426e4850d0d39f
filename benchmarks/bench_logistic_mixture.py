"""logistic_mixture: log-likelihood against the published form, as the ports of PixelCNN++ have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COPY
from genfast.ops.logistic_mixture import Mode

SIZE, MIXTURES = 32, 10
BATCH = {"cpu": 16, "cuda": 512}
NOTHING: Mapping[str, Mapping[str, float]] = {}
REACH = {TRAINING: {"eager": 8.0, "torch.compile": 4.0}}
REACH_OF_EXACT = {TRAINING: {"torch.compile": 4.0}}
REACH_BOUND = 70.0  # per cent of a copy, on a GPU


def published_form(params: Tensor, x: Tensor) -> Tensor:
    """log p of every pixel as published: every branch computed for every element, then chosen from."""
    logits, means, log_scales, x = _components(params, x)
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


def published_in_fp32(params: Tensor, x: Tensor) -> Tensor:
    """In 16 bits the published form is far off; autocast would compute it in fp32."""
    return published_form(params.float(), x.float()).to(params.dtype)


def _components(params: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logits, and one a colour: means, moved by the colours before, log-scales, x."""
    logits, rest = params[:, :MIXTURES], params[:, MIXTURES:]
    colors = x.shape[1]
    means, log_scales, *coefficients = rest.unflatten(1, (colors, -1, MIXTURES)).unbind(2)
    if coefficients:
        c, (red, green) = torch.tanh(coefficients[0]), (x[:, :1], x[:, 1:2])
        green_mean = means[:, 1] + c[:, 0] * red
        blue_mean = means[:, 2] + c[:, 1] * red + c[:, 2] * green
        means = torch.stack([means[:, 0], green_mean, blue_mean], 1)
    return logits, means, log_scales.clamp(min=-7), x[:, :, None]


def logistic_mixture_log_prob(device: str, quick: bool) -> Iterator[Case]:
    nchw, last = torch.contiguous_format, torch.channels_last
    yield _log_prob(device, torch.float32, nchw, "reference", reach=REACH)
    if not quick:
        yield _log_prob(device, torch.float32, nchw, "exact", reach=REACH_OF_EXACT)
        yield _log_prob(device, torch.float32, last, "reference", reach=REACH)
        yield _log_prob(device, torch.bfloat16, nchw, "reference", reach=REACH)
        yield _log_prob(device, torch.bfloat16, last, "reference", reach=REACH)
        yield _log_prob(device, torch.float32, nchw, "reference", colors=1)
        yield _log_prob(device, torch.float32, nchw, "exact", colors=1)


def _params(generator: torch.Generator, batch: int, colors: int) -> Tensor:
    """Like those of a trained model: scales of some levels."""
    kinds = 3 if colors == 1 else 10
    params = torch.randn(batch, kinds * MIXTURES, SIZE, SIZE, generator=generator)
    params[:, MIXTURES:].unflatten(1, (colors, -1, MIXTURES))[:, :, 1] -= 1
    return params


def _log_prob(
    device: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    mode: Mode,
    *,
    colors: int = 3,
    reach: Mapping[str, Mapping[str, float]] = NOTHING,
) -> Case:
    """Mode "reference" races the published form, "exact" the exact one as eager PyTorch has it."""
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    batch, on_cpu = BATCH[device], device == "cpu"
    shape = (batch, (3 if colors == 1 else 10) * MIXTURES, SIZE, SIZE)
    nbytes = math.prod(shape) * dtype.itemsize
    bound = Bound(COPY, 1.0, "a copy of the same bytes")

    def inputs(generator: torch.Generator) -> Inputs:
        x = torch.randint(0, 256, (batch, colors, SIZE, SIZE), generator=generator) * (2 / 255) - 1
        params, x = (
            t.to(device, dtype).contiguous(memory_format=layout)
            for t in (_params(generator, batch, colors), x)
        )
        return params, x.view(bits)  # as bits: every input of a float type would be differentiated by

    def side(log_prob: Callable[[Tensor, Tensor], Tensor]) -> Side:
        return Side(lambda params, x: log_prob(params, x.view(dtype).to(params.dtype)))

    exact = partial(reference.logistic_mixture_log_prob, mode=mode)
    published = published_form if dtype is torch.float32 else published_in_fp32
    return Case(
        op="logistic_mixture_log_prob",
        variant=("channels-last" if layout == torch.channels_last else "NCHW")
        + f", {mode}"
        + (", grey" if colors == 1 else ""),
        dtype=dtype,
        shape=shape,
        inputs=inputs,
        sides={
            "eager": side(published if mode == "reference" else exact),
            "genfast": side(partial(ops.logistic_mixture_log_prob, mode=mode)),
        },
        reference=side(exact),
        # Forward: read params. Backward: read them again and write their gradient.
        bytes={FORWARD: nbytes, TRAINING: 3 * nbytes},
        bound={FORWARD: bound, TRAINING: bound},
        reach=reach if on_cpu else {},
        reach_bound={} if on_cpu else {FORWARD: REACH_BOUND, TRAINING: REACH_BOUND},
        later=not on_cpu and (colors == 1 or mode == "exact"),
        # A boundary of a narrow bin magnifies the last bit of its distance from the mean: whose largest
        # error that makes is luck.
        slack_ulps=4.0,
    )


def logistic_mixture_sample(device: str, quick: bool) -> Iterator[Case]:
    yield _sample(device, compile=not quick)
    if not quick:
        yield _sample(device, colors=1)


def _sample(device: str, *, colors: int = 3, compile: bool = True) -> Case:
    """Continuous draws: rounding may put a quantised one a level away, and the gate would refuse it."""
    batch = BATCH[device]

    def inputs(generator: torch.Generator) -> Inputs:
        uniforms = torch.rand(batch, 1 + colors, SIZE, SIZE, generator=generator)
        params = _params(generator, batch, colors)
        return params.to(device), uniforms.clamp(1e-5, 1 - 1e-5).to(device)

    eager = Side(partial(reference.logistic_mixture_sample, quantize=False))
    return Case(
        op="logistic_mixture_sample",
        variant="NCHW, continuous" + (", grey" if colors == 1 else ""),
        dtype=torch.float32,
        shape=(batch, (3 if colors == 1 else 10) * MIXTURES, SIZE, SIZE),
        inputs=inputs,
        sides={
            "eager": eager,
            "genfast": Side(partial(ops.logistic_mixture_sample, quantize=False)),
        },
        reference=eager,
        directions=(FORWARD,),
        compile=compile,
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {
    "logistic_mixture_log_prob": logistic_mixture_log_prob,
    "logistic_mixture_sample": logistic_mixture_sample,
}
