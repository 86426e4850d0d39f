"""A mean over images that come in batches, its standard error and its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from torch import Tensor

#: Probability that an interval covers the mean of the distribution the images come from.
CONFIDENCE = 0.95
#: From more images than this the normal quantile is used: it is then less than 0.13 % too small.
_LARGE = 1000


#: Units of figures that are no likelihoods.
OTHER_UNITS = ("squared error",)


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations from the mean of some values.

    >>> import torch
    >>> parts = [Moments.of(torch.tensor([8.0, 10.0])), Moments.of(torch.tensor([12.0]))]
    >>> Moments.merged(parts)
    Moments(count=3, mean=10.0, squares=8.0)
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Of a tensor of any shape, in float64."""
        values = values.detach().cpu().double()
        if values.numel() == 0:
            return cls()
        mean = values.mean().item()
        return cls(values.numel(), mean, (values - mean).square().sum().item())

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Of all values together (Chan, Golub, LeVeque 1979); nothing is kept.

        Neither the number of parts nor a short last one matters, up to rounding in float64.
        """
        count, mean, squares = 0, 0.0, 0.0
        for part in parts:
            if part.count == 0:
                continue
            delta, total = part.mean - mean, count + part.count
            mean += delta * part.count / total
            squares += part.squares + delta * delta * count * part.count / total
            count = total
        return cls(count, mean, squares)


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood of `count` images, with its standard error, both in `unit`.

    `unit` is "bits/dim", or "nats" (an image); a "squared error" (of an image, summed over its pixels)
    is no likelihood, and has neither `nats` nor `bits_per_dim`. `dims` is the number of
    pixels times colours of an image: nats are bits/dim * dims * ln 2.

    >>> from_moments = Evaluation.of(Moments(count=4, mean=8.0, squares=12.0), dims=4, unit="nats")
    >>> from_moments.mean, from_moments.standard_error, round(from_moments.bits_per_dim, 3)
    (8.0, 1.0, 2.885)
    >>> low, high = from_moments.interval
    >>> f"{low:.2f} to {high:.2f}: {from_moments.interval_method}"
    '4.82 to 11.18: Student t, 3 degrees of freedom'
    """

    mean: float
    standard_error: float
    count: int
    dims: int
    unit: str = "bits/dim"

    @classmethod
    def of(cls, moments: Moments, dims: int, unit: str = "bits/dim") -> Evaluation:
        """From the moments of the images' negative log-likelihoods in nats.

        Raises `ValueError` if there are no images or the unit is unknown.
        """
        if moments.count == 0:
            raise ValueError("there are no images to evaluate")
        count, variance = moments.count, math.nan
        if count > 1:
            variance = moments.squares / (count - 1) / count
        scale = 1.0 if unit in OTHER_UNITS else 1.0 / _nats_in(unit, dims)
        return cls(moments.mean * scale, math.sqrt(variance) * scale, count, dims, unit)

    @property
    def nats(self) -> float:
        """Mean nats an image."""
        return self.mean * _nats_in(self.unit, self.dims)

    @property
    def bits_per_dim(self) -> float:
        """Mean bits a pixel and colour."""
        return self.mean if self.unit == "bits/dim" else self.nats / _nats_in("bits/dim", self.dims)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean, in `unit`; NaN for a single image."""
        if self.count < 2:
            return math.nan, math.nan
        half = self.standard_error * _quantile(self.count - 1)
        return self.mean - half, self.mean + half

    @property
    def interval_method(self) -> str:
        """Which distribution the interval's width comes from."""
        if self.count < 2:
            return "none, of a single image"
        if self.count > _LARGE:
            return "normal"
        return f"Student t, {self.count - 1} degrees of freedom"

    def to_dict(self) -> dict[str, Any]:
        """All figures, by name, as JSON values; what one image cannot tell is None."""
        values = {
            **asdict(self),
            "interval_95": list(self.interval),
            "interval_method": self.interval_method,
        }
        if self.unit not in OTHER_UNITS:
            values.update(bits_per_dim=self.bits_per_dim, nats=self.nats)
        if self.count < 2:  # NaN is not JSON
            values.update(standard_error=None, interval_95=None)
        return values


def _nats_in(unit: str, dims: int) -> float:
    """Nats an image in one of `unit`."""
    if unit == "nats":
        return 1.0
    if unit == "bits/dim":
        return dims * math.log(2)
    raise ValueError(f"unit must be 'bits/dim' or 'nats', got {unit!r}")


def _quantile(freedom: int) -> float:
    """Half the width of a 95 % interval in standard errors, with `freedom` degrees of freedom."""
    if freedom >= _LARGE:
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # halvings: to the last bits of a float64
        middle = (low + high) / 2
        below = _central_probability(middle, freedom) < CONFIDENCE
        low, high = (middle, high) if below else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _central_probability(angle: float, freedom: int) -> float:
    """P(|t| < sqrt(freedom) tan(angle)) for Student's t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    odd, cosine = freedom % 2, math.cos(angle)
    total, term = 0.0, cosine if odd else 1.0
    for k in range(freedom // 2):
        total += term
        term *= cosine * cosine * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
