"""Whether images drawn in two ways differ only as rounding lets them."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from genfast.models.autoregressive.base import AutoregressiveModel
from genfast.sampling import uniforms

# How far from a uniform a decision may lie for rounding to turn it. Outputs of fp32 networks are right
# to some 1e-6; where a logistic has its least scale, e^-7, the uniform feels 300 times as much.
_EDGE = 1e-3


@torch.no_grad()
def differ_by_rounding(
    model: AutoregressiveModel,
    x: Tensor,
    y: Tensor,
    numbers: Tensor,
    *,
    seed: int,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Of each pair of images, whether uniforms a thousandth larger or smaller could explain both.

    Images that differ do so from some pixel on; only what both drew there is looked at, since what
    follows depends on it. Equal images need no explanation.

    Args:
        model: what they are samples of, in evaluation mode.
        x, y: (N, C, H, W) int64 levels, of equal keys.
        numbers: (N,) int64, the numbers of the images.
        seed, labels, condition, temperature: as both were drawn.

    Returns:
        (N,) bool.

    >>> import torch, genfast
    >>> from genfast.models.autoregressive.agreement import differ_by_rounding
    >>> model = genfast.models.GatedPixelCNN((1, 3, 3), levels=2, channels=4, layers=1).eval()
    >>> x = model.sample(4, seed=1)
    >>> differ_by_rounding(model, x, x, torch.arange(4), seed=1).tolist()
    [True, True, True, True]
    >>> differ_by_rounding(model, x, 1 - x, torch.arange(4), seed=1).any().item()
    False
    """
    differs = (x != y).any(1).flatten(1)
    pixel = differs.int().argmax(1)  # the first one
    result = ~differs.any(1)
    for i in (~result).nonzero()[:, 0].tolist():
        one, at = slice(i, i + 1), int(pixel[i])
        given = (t if t is None else t[one] for t in (labels, condition))
        result[i] = _at_edge(model, x[one], y[one], numbers[one], at, seed, temperature, *given)
    return result


def _at_edge(
    model: AutoregressiveModel,
    x: Tensor,
    y: Tensor,
    number: Tensor,
    pixel: int,
    seed: int,
    temperature: float,
    labels: Tensor | None,
    condition: Tensor | None,
) -> bool:
    """Of one pair of images that are equal before the pixel: whether rounding may have drawn both."""
    head, (row, column) = model.output_head, divmod(pixel, model.image_shape[2])
    uniform = uniforms(seed, number, pixel, head.draws)
    signs = uniform.new_tensor(list(product((-1, 0, 1), repeat=head.draws)))
    nudged = (uniform + signs * _EDGE).clamp(1e-7, 1 - 1e-7)
    for colours in head.passes:
        outputs = model._outputs(x, labels, condition)[:, :, row, column]
        drawn = head.draw(outputs.expand(len(nudged), -1), nudged, colours, temperature)
        both = torch.cat([image[:, colours, row, column] for image in (x, y)])
        if not torch.equal(both[0], both[1]):
            return bool(((drawn.amin(0) <= both) & (both <= drawn.amax(0))).all())
    return True
