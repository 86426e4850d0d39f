"""Correctness before speed: no time counts unless the result is right.

The rule: the largest error against the fp64 reference is at most twice the error that eager
PyTorch makes at the same dtype (plus about a rounding of the largest value, for where eager is
exact by luck). Each of output and gradients has its own budget; the row keeps the pair closest
to its budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALLOWED = 2.0  # times eager's own error
# What we race against only has to compute the same thing; to drop a faster but somewhat less exact
# competitor would flatter us.
ALLOWED_TO_OTHERS = 16.0


class Refused(Exception):
    """A result is too far from the reference, so its time may not be reported."""


@dataclass(frozen=True)
class Verdict:
    max_err: float
    err_budget: float

    @property
    def ratio(self) -> float:
        """Error over budget; above 1 (or NaN) is a refusal."""
        return self.max_err / self.err_budget if self.max_err else 0.0


def judge(
    side: str,
    got: Sequence[Tensor],
    eager: Sequence[Tensor],
    reference: Sequence[Tensor],
    *,
    allowed: float = ALLOWED,
    slack_ulps: float = 0.5,
) -> Verdict:
    """Compare `got` with `reference` (fp64) under the budget that `eager` sets.

    Raises Refused, naming the side and which result is off.

    >>> exact = torch.full((4,), 1 / 3, dtype=torch.float64)
    >>> judge("mine", [exact.float()], [exact.float()], [exact]).ratio <= 0.5
    True
    >>> judge("mine", [exact.half()], [exact.float()], [exact])  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    Refused: mine: output: error 8.1e-05 is over the budget of 4e-08
    """
    if not len(got) == len(eager) == len(reference):
        counts = len(got), len(eager), len(reference)
        raise Refused(f"{side}: numbers of results differ (got, eager, reference): {counts}")
    worst = Verdict(0.0, math.inf)
    for i, (mine, theirs, true) in enumerate(zip(got, eager, reference, strict=True)):
        label = "output" if i == 0 else f"gradient {i}"
        if mine.shape != true.shape:
            raise Refused(f"{side}: {label}: shape {tuple(mine.shape)}, not {tuple(true.shape)}")
        rounding = slack_ulps * torch.finfo(theirs.dtype).eps * _largest(true)
        verdict = Verdict(_error(mine, true), allowed * _error(theirs, true) + rounding)
        if not verdict.max_err <= verdict.err_budget:  # so that a NaN is refused
            raise Refused(
                f"{side}: {label}: error {verdict.max_err:.2g} "
                f"is over the budget of {verdict.err_budget:.2g}"
            )
        if i == 0 or verdict.ratio > worst.ratio:
            worst = verdict
    return worst


def _error(result: Tensor, reference: Tensor) -> float:
    return _largest(result.double() - reference)


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
