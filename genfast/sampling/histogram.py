"""Percentiles of a stream in fixed memory."""

from __future__ import annotations

import torch
from torch import Tensor

# A value x falls into the bin of asinh(x / _SCALE) * _BINS: as wide as _SCALE / _BINS = 5e-5 near 0, and
# 0.5 % of the value far from it, up to the largest float32.
_SCALE, _BINS = 0.01, 200.0
_HALF = 20_000


class StreamingPercentile:
    """Counts of values in bins, from which any percentile is read.

    The order of the values does not matter, and two streams are joined by adding their `counts`. A
    percentile is off by at most a bin: 5e-5, or 0.5 % of its value if that is more.

    >>> import torch
    >>> from genfast.sampling import StreamingPercentile
    >>> stream = StreamingPercentile()
    >>> for part in torch.arange(0.0, 101.0).split(7):
    ...     stream.add(part)
    >>> round(stream.percentile(95))
    95
    """

    def __init__(self) -> None:
        #: (40001,) int64 on the CPU.
        self.counts = torch.zeros(2 * _HALF + 1, dtype=torch.int64)

    def add(self, values: Tensor) -> None:
        """Counts the values, any shape; infinities go to the outermost bins, NaN is left out."""
        values = values.detach().double().flatten()
        values = values[~values.isnan()]
        bins = (torch.asinh(values / _SCALE) * _BINS).round().clamp(-_HALF, _HALF).long() + _HALF
        self.counts += torch.bincount(bins, minlength=2 * _HALF + 1).cpu()

    def percentile(self, percent: float) -> float:
        """The value below which `percent` per cent of the values are: 50 is the median.

        Raises:
            ValueError: `percent` is not in [0, 100], or there are no values.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be between 0 and 100, got {percent}")
        total = int(self.counts.sum())
        if total == 0:
            raise ValueError("there are no values to take a percentile of; add some")
        rank = percent / 100 * (total - 1)
        upto = self.counts.cumsum(0)
        bin = int(torch.searchsorted(upto, int(rank), right=True))
        # Within the bin as if its values were spread evenly.
        share = (rank - int(upto[bin] - self.counts[bin]) + 0.5) / int(self.counts[bin]) - 0.5
        place = torch.tensor((bin - _HALF + share) / _BINS, dtype=torch.float64)
        return float(torch.sinh(place) * _SCALE)
