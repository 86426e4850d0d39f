"""What the ops claim, which tests prove it, and the table of both: docs/contract.md.

`python tests/contract.py` writes the table, `--check` only says whether it is current. A tick stands in
it only if the op's OpSpec claims the property and a test decorated with `proves` runs for that op and
dtype.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from opspec import SPECS
from specs.base import FLOATS, OpSpec

PAGE = Path(__file__).parents[1] / "docs" / "contract.md"
MODULES = ("test_ops", "test_ops_memory", "test_ops_parallel", "test_ops_transforms")

CLAIMS = {
    "forward": "as close to the fp64 value as PyTorch is, or within twice its error",
    "backward": "the same for every gradient",
    "double backward": "gradients of gradients are right too (in fp64 also by finite differences)",
    "vmap": "torch.vmap of the op and of its gradient equals a loop",
    "fullgraph": "torch.compile(fullgraph=True), forward and backward, sizes dynamic or not",
    "export": "torch.export gives a program with the same result, for any batch size",
    "autocast": "follows torch.autocast: gates keep the dtype of x, convolutions lower it, "
    "likelihoods and draws are fp32",
    "any strides": "slices, transposes, channels-last, expanded inputs and gradients",
    "64-bit addresses": "entries more than 2^31 elements apart",
    "empty batch": "a batch of 0 gives an empty result and zero gradients",
    "deterministic": "the same bits every time",
    "same bits on any threads": "the same bits on 1 and on 2 threads",
    "threads": "may be called from several threads at once",
    "fork": "works in a process forked from one that has used it",
    "ISA levels": "forward and backward hold at every instruction-set level that the CPU runs",
}


@dataclass(frozen=True)
class Proof:
    test: str
    dtypes: tuple[torch.dtype, ...]


PROOFS: dict[str, list[Proof]] = {claim: [] for claim in CLAIMS}


def proves(
    *claims: str,
    given: str | None = None,
    dtypes: Sequence[torch.dtype] = FLOATS,
    every_case: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs a test for every op that makes one of the claims, as test(spec, [case,] dtype).

    With `given`, only for those that make that claim too.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        for claim in claims:
            PROOFS[claim].append(Proof(f"{test.__module__}.{test.__name__}", tuple(dtypes)))
        claimed = [
            spec
            for spec in SPECS
            if spec.claims.intersection(claims) and (given is None or given in spec.claims)
        ]
        test = pytest.mark.parametrize("dtype", dtypes, ids=short)(test)
        return over_cases(claimed)(test) if every_case else over_ops(claimed)(test)

    return decorate


def over_ops(specs: Sequence[OpSpec] = SPECS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=lambda spec: spec.name)


def over_cases(specs: Sequence[OpSpec] = SPECS) -> pytest.MarkDecorator:
    pairs = [
        pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in specs for case in spec.cases
    ]
    return pytest.mark.parametrize(("spec", "case"), pairs)


def short(dtype: torch.dtype) -> str:
    return {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}[str(dtype)[6:]]


def proved(spec: OpSpec, claim: str, dtype: torch.dtype) -> bool:
    proofs = PROOFS[claim]
    return claim in spec.claims and bool(proofs) and all(dtype in proof.dtypes for proof in proofs)


def page() -> str:
    """The text of docs/contract.md."""
    for name in MODULES:
        importlib.import_module(name)
    lines = [
        "# What holds for each op",
        "",
        "Made by `python tests/contract.py` from the claims in `tests/specs/` and the tests that prove",
        "them on CPU; do not edit. An empty field is not claimed, or not tested at that dtype.",
        "",
        "| op | dtype | " + " | ".join(CLAIMS) + " |",
        "|---|---|" + ":-:|" * len(CLAIMS),
    ]
    for spec in SPECS:
        for dtype in FLOATS:
            ticks = " | ".join("✓" if proved(spec, claim, dtype) else " " for claim in CLAIMS)
            lines.append(f"| `{spec.name}` | {short(dtype)} | {ticks} |")
    lines += ["", "| property | meaning | proved by |", "|---|---|---|"]
    for claim, meaning in CLAIMS.items():
        tests = ", ".join(f"`{proof.test}`" for proof in PROOFS[claim])
        lines.append(f"| {claim} | {meaning} | {tests} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    if "--check" not in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE} is not current; run: python tests/contract.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # Under its own name, so that the tests register with this very module.
    sys.modules["contract"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
