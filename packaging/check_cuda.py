"""Compiles every CUDA kernel for the architectures that CI checks; needs nvcc, but no GPU.

Fails on a warning, on a register spill, or on a file that takes more than a minute. `make check-cuda`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cuda_toolkit import find_toolkit

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = ("80", "90a")
SECONDS = 60.0
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def compile_file(nvcc: Path, source: Path, architecture: str) -> list[str]:
    """Complaints about one file; prints a line about it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(nvcc), "-std=c++17", f"-I{ROOT / 'csrc'}", "-DGENFAST_WITH_CUDA",
            f"-arch=sm_{architecture}", "-Werror=all-warnings", "-Xptxas", "-v",
            "-c", str(source), "-o", str(Path(folder) / "object.o"),
        ]  # fmt: skip
        start = time.monotonic()
        result = subprocess.run(command, capture_output=True, text=True)
        seconds = time.monotonic() - start
    label = f"{source.relative_to(ROOT)} sm_{architecture}"
    if result.returncode:
        return [f"{label}: does not compile\n{result.stderr}"]
    kernels = list(KERNEL.finditer(result.stdout + result.stderr))
    if not kernels:
        return [f"{label}: no kernel found in what ptxas said"]
    most = max(int(kernel["registers"]) for kernel in kernels)
    print(f"{label}: {len(kernels)} kernels, at most {most} registers, {seconds:.0f} s", flush=True)
    complaints = [
        f"{label}: {kernel['name']} spills {kernel['stores']} bytes of registers"
        for kernel in kernels
        if int(kernel["stores"]) or int(kernel["loads"])
    ]
    if seconds > SECONDS:
        complaints.append(f"{label}: takes {seconds:.0f} s, more than {SECONDS:.0f} s")
    return complaints


def main() -> int:
    nvcc = find_toolkit() / "bin" / "nvcc"
    sources = sorted(ROOT.glob("csrc/*/*_cuda*.cu"))
    complaints = [c for f in sources for a in ARCHITECTURES for c in compile_file(nvcc, f, a)]
    print("\n".join(complaints) or f"{len(sources)} files compile cleanly")
    return 1 if complaints or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
