"""`make check-cuda`: compiles all CUDA code for the architectures that CI checks; needs no GPU.

That is every kernel of the package and the programs that only `make gpu` runs. Fails on a warning, on a
register spill of the package's kernels, or on a file that takes more than a minute.
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
# What `make gpu` builds besides the package: the checks of the emulation on a device (its wrong kernels
# stay on the CPU), the constants of a GPU, the faults that compute-sanitizer must find.
PROGRAMS = {
    "fragments": (
        *(
            f"csrc/emulation/tests/{name}.cu"
            for name in (
                "device_main", "primitive_checks", "primitive_workloads", "rejection_checks",
                "tensor_workloads", "workload_checks", "workloads",
            )
        ),
        "csrc/rejection/rejection_accept_cuda.cu",
        "csrc/rejection/rejection_compact_cuda.cu",
    ),
    "constants": ("benchmarks/cuda/constants.cu", "benchmarks/cuda/constants_sm90.cu"),
    "canary": ("packaging/canary.cu",),
}  # fmt: skip
FLAGS = ("-std=c++17", "-Werror=all-warnings")
SECONDS = 60.0
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def program_command(
    nvcc: Path, root: Path, name: str, architecture: str, output: Path
) -> list[Path | str]:
    """The command that builds one of PROGRAMS; architecture is as nvcc's -arch has it ("sm_80")."""
    sources = [root / source for source in PROGRAMS[name]]
    # Spelt out: the shorthand -arch=sm_90a also makes code for plain sm_90 with some compilers.
    number = architecture.removeprefix("sm_")
    target = f"-gencode=arch=compute_{number},code=sm_{number}"
    options = (*FLAGS, "-DGENFAST_WITH_CUDA", f"-I{root / 'csrc'}", target)
    # Threads: files of one program at once, by nvcc itself.
    return [nvcc, *options, "--threads", "0", "-o", output, *sources]


def compile_file(nvcc: Path, source: Path, architecture: str) -> list[str]:
    """Complaints about one file; prints a line about it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(nvcc), *FLAGS, f"-I{ROOT / 'csrc'}", "-DGENFAST_WITH_CUDA",
            f"-arch=sm_{architecture}", "-Xptxas", "-v",
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


def build_program(nvcc: Path, name: str, architecture: str) -> list[str]:
    """Complaints about one of PROGRAMS, linked as `make gpu` links it; prints a line about it."""
    with tempfile.TemporaryDirectory() as folder:
        command = program_command(nvcc, ROOT, name, f"sm_{architecture}", Path(folder) / name)
        start = time.monotonic()
        result = subprocess.run(command, capture_output=True, text=True)
    label = f"program {name} sm_{architecture}"
    if result.returncode:
        return [f"{label}: is not built\n{result.stdout}{result.stderr}"]
    print(f"{label}: {time.monotonic() - start:.0f} s", flush=True)
    return []


def main() -> int:
    nvcc = find_toolkit() / "bin" / "nvcc"
    sources = sorted(ROOT.glob("csrc/*/*_cuda*.cu"))
    complaints = [c for f in sources for a in ARCHITECTURES for c in compile_file(nvcc, f, a)]
    complaints += [c for n in PROGRAMS for a in ARCHITECTURES for c in build_program(nvcc, n, a)]
    print("\n".join(complaints) or f"{len(sources)} files and {len(PROGRAMS)} programs compile cleanly")
    return 1 if complaints or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
