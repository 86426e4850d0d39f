"""Installs a wheel beside one version of torch in an empty environment and runs the op suite on it.

`make wheel-matrix` runs this for the oldest torch and the newest: downloads of gigabytes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = "2.4.1"
# numpy 2 broke the ABI that older torch was built with: torch 2.4's tensors do not convert to it.
NUMPY = {OLDEST: "numpy<2"}
SUITE = (
    # Forks first: a CUDA build of torch >= 2.15 refuses any backward in the child of a process in which
    # the threads of autograd have started.
    *("test_ops_parallel.py", "test_ops.py", "test_ops_memory.py", "test_ops_transforms.py"),
    *("test_ops_cuda.py", "test_gated.py", "test_masked_conv.py", "test_native.py"),
    *("test_gaussian_mixture.py", "test_lstm_scan.py", "test_rejection.py"),
    "test_logistic_mixture_sample.py",
)
# The one test of that suite that is about the tree, not about what is installed.
OF_THE_TREE = "test_native.py::test_every_package_is_packed"


def environment(folder: Path, wheel: Path, torch: str) -> Path:
    """An empty virtual environment with the wheel, that torch and the test tools -> its python."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wanted = [str(wheel.resolve()), f"torch=={torch}", NUMPY.get(torch, "numpy")]
    pip = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    subprocess.run([*pip, "pytest", "hypothesis"], check=True, env=_outside())
    return python


def op_suite(python: Path, folder: Path, arguments: list[str]) -> int:
    """Runs the op tests on the installed package, from a copy that the tree is out of reach of."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    where = "import genfast; print(genfast.__file__)"
    found = subprocess.run(
        [python, "-c", where], cwd=folder, env=_outside(), capture_output=True, text=True, check=True
    )
    # Not resolved: the environment's python is a link to one outside.
    if not Path(found.stdout.strip()).is_relative_to(python.absolute().parents[1]):
        raise RuntimeError(f"{python} imports {found.stdout.strip()}, not the installed wheel")
    subprocess.run([python, "-m", "genfast.info"], cwd=folder, env=_outside(), check=True)
    suite = [f"tests/{name}" for name in SUITE]
    pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    left_out = ["--deselect", f"tests/{OF_THE_TREE}"]
    return subprocess.run(
        [*pytest, *left_out, *suite, *arguments], cwd=folder, env=_outside()
    ).returncode


def newest_torch() -> str:
    """The newest release of torch that pip finds for this interpreter, without a local label."""
    pip = [sys.executable, "-m", "pip", "index", "versions", "torch"]
    text = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Available versions:\s*([\d.]+)", text)
    if found is None:
        raise RuntimeError(f"pip index versions torch lists no version: {text!r}")
    return found[1]


def newest_wheel() -> Path:
    """The wheel for this interpreter that was made last."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = sorted(
        (ROOT / "dist").glob(f"genfast-*-{tag}-*.whl"), key=lambda path: path.stat().st_mtime
    )
    if not wheels:
        raise RuntimeError(f"dist/ has no wheel for {tag}; run: make wheel")
    return wheels[-1]


def _outside() -> dict[str, str]:
    """The environment without what could lead to the tree or to another interpreter's packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_PRELOAD")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PYTHONNOUSERSITE": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", nargs="+", default=[OLDEST, "newest"], help="default: %(default)s")
    parser.add_argument("--wheel", type=Path, help="default: the newest in dist/ for this Python")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "matrix", help="%(default)s")
    options, pytest_arguments = parser.parse_known_args()
    wheel = options.wheel or newest_wheel()
    outcomes = {}
    for wanted in options.torch:
        version = newest_torch() if wanted == "newest" else wanted
        started = time.monotonic()
        folder = options.work / f"torch-{version}"
        python = environment(folder / "venv", wheel, version)
        passed = op_suite(python, folder / "suite", pytest_arguments) == 0
        outcomes[version] = passed
        print(f"torch {version}: {'passed' if passed else 'FAILED'}, {time.monotonic() - started:.0f} s")
        if passed:
            shutil.rmtree(folder)  # up to six gigabytes each
    print(
        f"{wheel.name}: "
        + ", ".join(f"torch {v} {'ok' if ok else 'FAILED'}" for v, ok in outcomes.items())
    )
    return 0 if all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
