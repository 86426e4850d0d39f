"""The discretised mixture of logistics in plain PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from genfast.reference.draws import categorical


def logistic_mixture_log_prob(
    params: Tensor, x: Tensor, *, levels: int = 256, mode: str = "exact"
) -> Tensor:
    """log p(x) of every pixel in nats, (N, H, W), for params (N, 10K or 3K, H, W) and x (N, C, H, W).

    >>> import torch, genfast
    >>> params, x = torch.zeros(1, 10, 2, 2), torch.ones(1, 3, 2, 2)
    >>> genfast.reference.logistic_mixture_log_prob(params, x).shape
    torch.Size([1, 2, 2])
    """
    log_prob = _log_prob_of_level if mode == "exact" else _published_log_prob
    if mode == "exact":
        x = 2 * _level(x, levels) / (levels - 1) - 1
    logits, means, log_scales = _components(params, x)
    colors = log_prob(x[:, :, None], means, log_scales.clamp(min=-7), levels)
    return torch.logsumexp(F.log_softmax(logits, 1) + colors.sum(1), 1)


def logistic_mixture_sample(
    params: Tensor,
    uniforms: Tensor,
    *,
    levels: int = 256,
    quantize: bool = True,
    temperature: float = 1.0,
) -> Tensor:
    """A draw of every pixel from uniforms (N, 1 + C, H, W): x (N, C, H, W) in [-1, 1].

    The temperature divides the logits and multiplies the scales.

    >>> import torch, genfast
    >>> params, uniforms = torch.zeros(1, 3, 1, 1), torch.full((1, 2, 1, 1), 0.5)
    >>> genfast.reference.logistic_mixture_sample(params, uniforms, levels=3).item()
    0.0
    """
    colors = uniforms.shape[1] - 1
    x = torch.zeros_like(uniforms[:, 1:])
    logits = _components(params, x)[0].movedim(1, -1)
    k = categorical(logits / temperature, uniforms[:, 0])[:, None, None]
    for c in range(colors):
        _, means, log_scales = _components(params, x)  # the means know the colours drawn so far
        mean = means[:, c : c + 1].gather(2, k)[:, 0, 0]
        scale = temperature * log_scales[:, c : c + 1].gather(2, k)[:, 0, 0].clamp(min=-7).exp()
        value = (mean + scale * torch.logit(uniforms[:, c + 1])).clamp(-1, 1)
        value = 2 * _level(value, levels) / (levels - 1) - 1 if quantize else value
        x = torch.cat([x[:, :c], value[:, None], x[:, c + 1 :]], 1)
    return x


def logistic_mixture_levels(
    params: Tensor, uniforms: Tensor, *, levels: int, temperature: float = 1.0
) -> Tensor:
    """`logistic_mixture_sample` of one pixel an image as levels: (N, C) int64 in [0, levels).

    Args:
        params: (N, 10K) for three colours, (N, 3K) for one.
        uniforms: (N, 1 + C) in (0, 1): the first picks the component, the others draw the colours.

    >>> import torch
    >>> from genfast.reference.logistic_mixture import logistic_mixture_levels
    >>> params = torch.tensor([[0.0, 0.2, -20.0]])  # one component, certain of 0.2
    >>> logistic_mixture_levels(params, torch.tensor([[0.5, 0.5]]), levels=11).item()
    6
    """
    params, uniforms = params[..., None, None], uniforms.to(params.dtype)[..., None, None]
    x = logistic_mixture_sample(params, uniforms, levels=levels, temperature=temperature)
    return _level(x, levels).long()[..., 0, 0]


def _level(x: Tensor, levels: int) -> Tensor:
    """The level nearest to x in [-1, 1]."""
    return torch.round((x + 1) * ((levels - 1) / 2)).clamp(0, levels - 1)


def _components(params: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K, H, W); means, moved by the colours before, and log-scales, (N, C, K, H, W)."""
    colors = x.shape[1]
    kinds = 2 if colors == 1 else 3
    mixtures = params.shape[1] // (1 + kinds * colors)
    logits, rest = params[:, :mixtures], params[:, mixtures:]
    means, log_scales, *coefficients = rest.unflatten(1, (colors, kinds, mixtures)).unbind(2)
    if colors == 3:
        (r, g), t = (x[:, :1], x[:, 1:2]), coefficients[0].tanh()
        moved = [means[:, 0], means[:, 1] + t[:, 0] * r, means[:, 2] + t[:, 1] * r + t[:, 2] * g]
        means = torch.stack(moved, 1)
    return logits, means, log_scales


def _log_prob_of_level(x: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> Tensor:
    """The mass between the level's boundaries, half a level away, or beyond for the outer levels."""
    level, scales = _level(x, levels), log_scales.exp()
    a = ((2 * level - levels + 2) / (levels - 1) - means) / scales
    b = ((2 * level - levels) / (levels - 1) - means) / scales
    return _log_mass(a, b, 2 / (levels - 1) / scales, level == 0, level == levels - 1)


def _published_log_prob(x: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> Tensor:
    """As in the published code: for a bin that is not likely, its density times its width."""
    half, scales = 1 / (levels - 1), log_scales.exp()
    a, b, t = (x + half - means) / scales, (x - half - means) / scales, (x - means) / scales
    first, last = x < -0.999, x > 0.999
    log_mass = _log_mass(a, b, 2 * half / scales, first, last)
    log_density = F.logsigmoid(t) + F.logsigmoid(-t) - log_scales + math.log(2 * half)
    return torch.where((log_mass.exp() > 1e-5) | first | last, log_mass, log_density)


def _log_mass(a: Tensor, b: Tensor, width: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """log(sigmoid(a) - sigmoid(b)) without cancellation, where a - b = width, or all beyond a or b."""
    inner = torch.log(-torch.expm1(-width)).masked_fill(first | last, 0)
    return inner + F.logsigmoid(a).masked_fill(last, 0) + F.logsigmoid(-b).masked_fill(first, 0)
