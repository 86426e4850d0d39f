"""The CUDA toolkit to build wheels with: an installed one, or one made of the package index's wheels.

CUDA 13.0 is the oldest toolkit that can be had as wheels: of CUDA 12 the index has ptxas and the headers
but no compiler driver. `python packaging/cuda_toolkit.py` prints the folder of the toolkit it chose.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSEMBLED = ROOT / "build" / "cuda-toolkit"

# Names without -cu12/-cu13 are CUDA 13's; all of them unpack into nvidia/cu13.
PINS = {
    "nvidia-cuda-nvcc": "13.0.88",
    "nvidia-cuda-crt": "13.0.88",
    "nvidia-nvvm": "13.0.88",
    "nvidia-cuda-runtime": "13.0.96",
    "nvidia-cuda-cccl": "13.0.85",
}
HEADERS = ("nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl")
# The first toolkit for sm_100 and sm_120, and the newest that an installed one may be: a newer toolkit
# would ask users for a newer driver than the wheels above do.
OLDEST, NEWEST = (12, 8), (13, 0)
DRIVERS = {(12, 8): "570", (12, 9): "575", (13, 0): "580"}


class NoToolkit(RuntimeError):
    """No toolkit is installed and none could be assembled; the message says what was tried."""


def driver_needed(version: tuple[int, int]) -> str:
    """The oldest Linux driver that runs what this toolkit builds; CUDA 13 shares one minimum."""
    return DRIVERS.get(version, DRIVERS[13, 0])


def nvcc_version(nvcc: Path) -> tuple[int, int]:
    """(major, minor) that `nvcc --version` states."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    if found is None:
        raise NoToolkit(f"{nvcc} --version names no release: {text!r}")
    return int(found[1]), int(found[2])


def installed_nvcc() -> Path | None:
    """CUDACXX, then CUDA_HOME, then the path, then /usr/local/cuda; wrapper scripts are followed."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"
    choices = [os.environ.get("CUDACXX"), home if "CUDA_HOME" in os.environ else None]
    choices += [shutil.which("nvcc"), home]
    return next((Path(choice) for choice in choices if choice and Path(choice).is_file()), None)


def toolkit_of(nvcc: Path) -> Path:
    """The folder that holds bin/, include/ and lib/, as nvcc itself reports it."""
    shown = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True).stderr
    found = re.search(r"^#\$ TOP=(.+)$", shown, re.MULTILINE)
    if found is None:
        raise NoToolkit(f"{nvcc} --dryrun names no folder of a toolkit: {shown[:200]!r}")
    return Path(found[1].strip()).resolve()


def assemble(packages: tuple[str, ...] = tuple(PINS), folder: Path = ASSEMBLED) -> Path:
    """Installs the pinned wheels under `folder` once, with the links nvcc and CMake look for."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        raise NoToolkit(
            f"the CUDA wheels are for Linux on x86_64 and aarch64, not {sys.platform} {machine}"
        )
    wanted = [f"{name}=={PINS[name]}" for name in packages]
    stamp = folder / "installed.txt"
    top = folder / "nvidia" / "cu13"
    if stamp.is_file() and set(wanted) <= set(stamp.read_text().split()):
        return top
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    done = subprocess.run([*pip, "--target", folder, *wanted], capture_output=True, text=True)
    if done.returncode:
        raise NoToolkit(f"pip could not install {', '.join(wanted)}:\n{done.stderr.strip()[-1000:]}")
    (top / "lib64").symlink_to("lib")
    for library in (top / "lib").glob("lib*.so.*"):  # CMake looks for libcudart.so
        plain = library.with_name(library.name.partition(".so")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
    target = top / "targets" / ("sbsa-linux" if machine == "aarch64" else "x86_64-linux")
    target.mkdir(parents=True)
    for name in ("include", "lib"):
        (target / name).symlink_to(Path("..", "..", name))
    stamp.write_text("\n".join(wanted) + "\n")
    return top


def find_toolkit() -> Path:
    """The toolkit to build wheels with; raises NoToolkit, saying why, where there is none."""
    nvcc, refused = installed_nvcc(), "no nvcc is installed"
    if nvcc is not None:
        version = nvcc_version(nvcc)
        if OLDEST <= version <= NEWEST:
            return toolkit_of(nvcc)
        refused = f"{nvcc} is CUDA {version[0]}.{version[1]}, wheels are built with 12.8 to 13.0"
    try:
        return assemble()
    except NoToolkit as error:
        raise NoToolkit(f"{refused}, and {error}") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", action="store_true", help="assemble the headers alone (small)")
    parser.add_argument("--wheels", action="store_true", help="assemble even if nvcc is installed")
    options = parser.parse_args()
    try:
        if options.headers:
            print(assemble(HEADERS, ASSEMBLED.with_name("cuda-headers")))
        else:
            print(assemble() if options.wheels else find_toolkit())
    except NoToolkit as error:
        print(f"no CUDA toolkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
