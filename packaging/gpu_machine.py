"""What `make gpu` needs of a machine, and what is missing, by the name to install it under."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cuda_toolkit import driver_needed, installed_nvcc, nvcc_version

# Module -> name on the package index: to build, to test, and to run the tests of training.
PYTHON_PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "pip": "pip",
    "setuptools": "setuptools>=77",
    "pybind11": "pybind11>=2.13",
    "pytest": "pytest",
    "hypothesis": "hypothesis",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}
# What only tests that need no GPU want: without them the rest is run all the same.
SUITE_PACKAGES = {"tomli_w": "tomli-w", "faiss": "faiss-cpu"}
PROGRAMS = {"cmake": "cmake>=3.24", "ninja": "ninja"}
SANITIZER_FOLDERS = ("bin", "compute-sanitizer", "extras/compute-sanitizer")
SANITIZER_WHEEL = "nvidia-cuda-sanitizer-api==13.0.85"

# Run by a child, since this script itself must start where torch is missing or broken.
PROBE = """
import importlib.util, json, sys
names = sys.argv[1:]
facts = {"missing": [n for n in names if importlib.util.find_spec(n) is None], "xdist": False}
facts["xdist"] = importlib.util.find_spec("xdist") is not None
if "torch" not in facts["missing"]:
    import torch
    facts |= {"torch": torch.__version__, "torch_cuda": torch.version.cuda, "gpu": None}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["capability"] = list(torch.cuda.get_device_capability())
print(json.dumps(facts))
"""


def probe() -> dict[str, Any]:
    """What Python and torch of this interpreter see."""
    command = [sys.executable, "-c", PROBE, *PYTHON_PACKAGES, *SUITE_PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        return {"missing": [], "broken": done.stderr.strip().splitlines()[-1:]}
    facts = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    missing = facts["missing"]
    facts["missing"] = [name for name in missing if name in PYTHON_PACKAGES]
    facts["missing_for_suite"] = [SUITE_PACKAGES[name] for name in missing if name in SUITE_PACKAGES]
    return facts


def driver_version() -> str | None:
    """The NVIDIA driver's version, e.g. "580.65.06"; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.match(r"\d+(\.\d+)+", done.stdout.strip())
    return found[0] if found else None


def compute_sanitizer() -> Path | None:
    """On the path, beside nvcc, or in a wheel of this interpreter's environment."""
    if on_path := shutil.which("compute-sanitizer"):
        return Path(on_path)
    homes = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    homes += [Path(folder) / "nvidia" / "cu13" for folder in sys.path if folder]
    choices = [home / part / "compute-sanitizer" for home in homes for part in SANITIZER_FOLDERS]
    return next((choice for choice in choices if choice.is_file()), None)


def problems(
    facts: Mapping[str, Any],
    *,
    which: Callable[[str], str | None] = shutil.which,
    nvcc: tuple[int, int] | None,
    driver: str | None,
) -> list[str]:
    """Everything that stands in the way, all at once: one line each, with the remedy."""
    found = []
    if sys.version_info < (3, 10):  # noqa: UP036 - this script starts under any Python 3
        found.append(f"Python {sys.version_info[0]}.{sys.version_info[1]}: 3.10 or newer is needed")
    wheels = [PYTHON_PACKAGES[name] for name in facts["missing"]]
    wheels += [wheel for program, wheel in PROGRAMS.items() if which(program) is None]
    if wheels:
        names = " ".join(f'"{wheel}"' for wheel in wheels)
        found.append(f"missing wheels: {', '.join(wheels)}; install them: pip install {names}")
    if facts.get("broken"):
        found.append(f"torch does not load: {' '.join(facts['broken'])}")
    if which("c++") is None and which("g++") is None:
        found.append("no C++ compiler: install g++")
    if driver is None:
        found.append("no NVIDIA driver answers (nvidia-smi is not there, or sees no GPU)")
    if "torch" in facts and facts.get("gpu") is None:
        built = f"CUDA {facts['torch_cuda']}" if facts.get("torch_cuda") else "the CPU alone"
        found.append(f"torch {facts['torch']} sees no GPU; it is built for {built}")
    if nvcc is None:
        found.append("no nvcc: install a CUDA toolkit from 12.8 on, or set CUDA_HOME to one")
    elif driver is not None and int(driver.split(".")[0]) < int(driver_needed(nvcc)):
        needed = f"{driver_needed(nvcc)} or newer for CUDA {nvcc[0]}.{nvcc[1]}"
        found.append(f"the driver is {driver}, nvcc needs {needed}")
    return found


def is_about_the_gpu(problem: str) -> bool:
    """Whether one of `problems` is that there is no GPU, which a dry run does without."""
    return problem.startswith("no NVIDIA driver") or "sees no GPU" in problem


def architecture(capability: list[int]) -> str:
    """The value of GENFAST_CUDA_ARCHS for a GPU; Hopper's own instructions need the "a".

    >>> architecture([9, 0]), architecture([8, 6])
    ('90a', '86')
    """
    major, minor = capability
    return f"{major}{minor}" + ("a" if (major, minor) == (9, 0) else "")


def result_name(gpu: str) -> str:
    """A file name for a GPU's results.

    >>> result_name("NVIDIA H200")
    'h200'
    >>> result_name("NVIDIA GeForce RTX 4090")
    'geforce-rtx-4090'
    """
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower().removeprefix("nvidia")).strip("-")


def inspect() -> tuple[dict[str, Any], list[str]]:
    """The facts of this machine, and its problems (empty: `make gpu` can run)."""
    nvcc_path = installed_nvcc()
    nvcc = nvcc_version(nvcc_path) if nvcc_path else None
    facts, driver = probe(), driver_version()
    wrong = problems(facts, nvcc=nvcc, driver=driver)
    sanitizer = compute_sanitizer()
    return {
        **facts,
        "python": sys.version.split()[0],
        "driver": driver,
        "nvcc": ".".join(map(str, nvcc)) if nvcc else None,
        "nvcc_path": str(nvcc_path) if nvcc_path else None,
        "compute_sanitizer": str(sanitizer) if sanitizer else None,
        "cpus": os.cpu_count(),
    }, wrong
