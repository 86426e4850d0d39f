"""The list that drives every generic test (test_ops*.py) and the contract table (docs/contract.md).

To add an op, add one OpSpec to the file of its family in specs/: which tensors it takes, some calls, how
to draw random calls, which input it must refuse, and what it claims.
"""

from __future__ import annotations

from specs import gated, gaussian_mixture, logistic_mixture, lstm_scan, masked_conv, rejection

SPECS = (
    *gated.SPECS,
    *gaussian_mixture.SPECS,
    *logistic_mixture.SPECS,
    *lstm_scan.SPECS,
    *masked_conv.SPECS,
    *rejection.SPECS,
)
DIFFERENTIABLE = [spec for spec in SPECS if "backward" in spec.claims]
