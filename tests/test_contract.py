"""The contract table: every claim is proved, and the page says what the tests say."""

from __future__ import annotations

import contract
from opspec import SPECS


def test_every_claim_has_a_proof() -> None:
    contract.page()  # loads the tests that register proofs
    claimed = set().union(*(spec.claims for spec in SPECS))
    assert claimed == set(contract.CLAIMS)
    assert all(contract.PROOFS[claim] for claim in claimed)


def test_the_page_is_current() -> None:
    assert contract.PAGE.read_text(encoding="utf-8") == contract.page(), "run: python tests/contract.py"
