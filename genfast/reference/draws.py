"""Draws from the distributions of autoregressive models, given uniforms."""

from __future__ import annotations

import torch
from torch import Tensor


def categorical(logits: Tensor, uniform: Tensor) -> Tensor:
    """The smallest level whose cumulative probability exceeds `uniform`.

    Args:
        logits: (..., L), not necessarily normalised.
        uniform: (...) in (0, 1).

    Returns:
        (...) int64 in [0, L).

    >>> import torch
    >>> from genfast.sampling import categorical
    >>> categorical(torch.tensor([0.0, 0.0]).log_softmax(0), torch.tensor(0.7)).item()
    1
    """
    weights = torch.exp(logits.float() - logits.float().amax(-1, keepdim=True))
    cumulative = weights.cumsum(-1)
    threshold = uniform[..., None] * cumulative[..., -1:]
    return (cumulative[..., :-1] <= threshold).sum(-1)


def logistic_mixture_levels(
    parameters: Tensor, uniforms: Tensor, levels: int, temperature: float = 1.0
) -> Tensor:
    """Levels of a pixel's colours from a mixture of logistics (Salimans et al., "PixelCNN++", 2017).

    Args:
        parameters: (N, 10K) for three colours: K logits, then for each colour K means, K log-scales and
            K coefficients; (N, 3K) for one: K logits, K means, K log-scales.
        uniforms: (N, 1 + C) in (0, 1): the first picks the component, the others draw the colours.
        levels: values a colour can take, evenly spaced in [-1, 1].
        temperature: divides the logits and multiplies the scales.

    Returns:
        (N, C) int64 in [0, levels).

    >>> import torch
    >>> from genfast.reference.draws import logistic_mixture_levels
    >>> parameters = torch.tensor([[0.0, 0.2, -7.0]])  # one component with mean 0.2
    >>> logistic_mixture_levels(parameters, torch.tensor([[0.5, 0.5]]), levels=11).item()
    6
    """
    colours = uniforms.shape[1] - 1
    mixtures = parameters.shape[1] // (10 if colours == 3 else 3)
    component = categorical(parameters[:, :mixtures] / temperature, uniforms[:, 0])
    rest = parameters[:, mixtures:].unflatten(1, (colours, -1, mixtures))
    mean, log_scale, *coefficient = rest.gather(
        3, component[:, None, None, None].expand(*rest.shape[:3], 1)
    )[..., 0].unbind(2)
    u = uniforms[:, 1:].to(parameters.dtype)
    noise = temperature * log_scale.clamp(min=-7).exp() * (u / (1 - u)).log()
    couplings = torch.tanh(coefficient[0]) if colours == 3 else mean
    drawn: list[Tensor] = []
    values: list[Tensor] = []
    for colour in range(colours):
        shifted = mean[:, colour]
        for earlier in range(colour):  # green: c_0 red; blue: c_1 red + c_2 green
            shifted = shifted + couplings[:, colour - 1 + earlier] * values[earlier]
        x = (shifted + noise[:, colour]).clamp(-1, 1)
        drawn.append(((x + 1) * ((levels - 1) / 2)).round().long())
        values.append(drawn[-1].to(x.dtype) * (2 / (levels - 1)) - 1)
    return torch.stack(drawn, 1)
