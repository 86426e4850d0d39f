"""Every small case of every CUDA op, forward and backward, for compute-sanitizer to watch.

Results are compared by the tests; here the memory accesses are what counts. Run from tests/, with the
device to run on as argument ("cuda" unless given).
"""

from __future__ import annotations

import sys

import torch
from checks import forward_backward
from device_calls import OURS, channels_last
from places import exact_convolutions, own_kernels

DTYPES = (torch.float32, torch.bfloat16)


def main(device: str = "cuda") -> int:
    count = 0
    for call in OURS:
        spec = call.spec
        for case in (*spec.cases, call.vector, spec.empty):
            for dtype in DTYPES:
                tensors = channels_last(spec.tensors(case, dtype, device))
                with exact_convolutions(), own_kernels(call.own):
                    forward_backward(spec.op, tensors, case.keywords, spec.differentiable(case))
                count += 1
        if device == "cuda":
            torch.cuda.synchronize()
    print(f"{count} cases")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
