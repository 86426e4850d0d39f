"""Every small case of every CUDA op, forward and backward, for compute-sanitizer to watch.

Results are compared by the tests; here the memory accesses are what counts. Run from tests/.
"""

from __future__ import annotations

import sys

import torch
from checks import forward_backward
from opspec import SPECS

DTYPES = (torch.float32, torch.bfloat16)


def main() -> int:
    count = 0
    for spec in (spec for spec in SPECS if "cuda" in spec.devices):
        for case in (*spec.cases, spec.empty):
            for dtype in DTYPES:
                tensors = spec.tensors(case, dtype, "cuda")
                forward_backward(spec.op, tensors, case.keywords, spec.differentiable(case))
                count += 1
        torch.cuda.synchronize()
    print(f"{count} cases")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
