"""What is installed here and what it can run: `genfast info`, `python -m genfast.info`."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy
import torch

import genfast
from genfast import _C


def info() -> dict[str, Any]:
    """Facts for a bug report; every value is JSON.

    >>> import genfast.info
    >>> genfast.info.info()["cpu"]["isa"] in ("baseline", "avx2", "avx512")
    True
    """
    build = _C.build_info()
    return {
        "genfast": genfast.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cpu": {
            "isa": _C.current_isa(),
            "runnable": _C.runnable_isas(),
            "threads": torch.get_num_threads(),
        },
        "cuda": _cuda(),
        "faiss": _faiss(),
        "build": build,
    }


def _cuda() -> dict[str, Any]:
    driver, build = _C.cuda_versions()
    facts: dict[str, Any] = {
        "architectures": _C.build_info()["cuda_archs"].split(),
        "needs_cuda": _version(build),
        "driver_cuda": _version(driver),
        "torch_cuda": torch.version.cuda,
        "devices": [],
    }
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            name = torch.cuda.get_device_name(index)
            facts["devices"].append({"name": name, "capability": f"{major}.{minor}"})
    return facts


def _version(number: int) -> str | None:
    """A CUDA version from major * 1000 + minor * 10."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _faiss() -> dict[str, Any] | None:
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return None
    count = getattr(faiss, "get_num_gpus", None)  # absent from CPU builds
    return {"version": faiss.__version__, "gpus": count() if count else 0}


def _text(facts: dict[str, Any]) -> str:
    cuda, faiss, build = facts["cuda"], facts["faiss"], facts["build"]
    devices = ", ".join(f"{d['name']} (sm_{d['capability'].replace('.', '')})" for d in cuda["devices"])
    rows = {
        "genfast": facts["genfast"],
        "python": f"{facts['python']} on {facts['platform']}",
        "torch": f"{facts['torch']} (CUDA {cuda['torch_cuda'] or 'none'})",
        "numpy": facts["numpy"],
        "CPU kernels": f"{facts['cpu']['isa']} (runnable: {', '.join(facts['cpu']['runnable'])})",
        "threads": facts["cpu"]["threads"],
        "CUDA in genfast": _cuda_text(cuda),
        "CUDA devices": devices or "none",
        "FAISS": f"{faiss['version']}, {faiss['gpus']} GPUs"
        if faiss
        else "not installed (extra: faiss)",
        "build": f"{build['compiler']}, {build['build_type']}, levels {build['cpu_isas']}"
        + (f", sanitizers {build['sanitize']}" if build["sanitize"] else ""),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _cuda_text(cuda: dict[str, Any]) -> str:
    if not cuda["architectures"]:
        return "none in this build"
    archs = ", ".join(f"sm_{arch}" for arch in cuda["architectures"])
    return f"{archs}; needs CUDA {cuda['needs_cuda']}, the driver has {cuda['driver_cuda'] or 'none'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the facts; `--json` for machines."""
    parser = argparse.ArgumentParser(prog="genfast info", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    facts = info()
    print(json.dumps(facts, indent=2) if options.json else _text(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
