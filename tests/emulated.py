"""The CUDA kernels on the CPU: builds the emulated module and puts its kernels in place of the CPU's."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pybind11
import pytest
import torch
from builds import building

from genfast import _C
from genfast.ops import _native, pixel_sampler

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "emulated"

#: The orders in which the threads of a block are run; results must not depend on it.
SCHEDULES = (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))


@functools.cache
def emulated_module() -> ModuleType:
    """The module; GENFAST_EMULATED_MODULE names the file of one built elsewhere (with sanitizers)."""
    given = os.environ.get("GENFAST_EMULATED_MODULE")
    path = Path(given) if given else _build()
    spec = importlib.util.spec_from_file_location("genfast_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build() -> Path:
    """Builds what has changed."""
    tools = Path(sys.executable).parent
    configure = [
        tools / "cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        "-DGENFAST_EMULATION=ON", "-DGENFAST_CUDA=off", *_cuda_headers(),
    ]  # fmt: skip
    with building(BUILD):
        subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([tools / "cmake", "--build", BUILD, "--target", "genfast_emulated"], check=True)
    (path,) = BUILD.glob("genfast_emulated*.so")
    return path


def _cuda_headers() -> list[str]:
    """Where the headers are, if not in a toolkit that CMake finds: in wheels, downloaded once."""
    if shutil.which("nvcc") or "CUDA_HOME" in os.environ or Path("/usr/local/cuda/include").is_dir():
        return []
    command = [sys.executable, ROOT / "packaging" / "cuda_toolkit.py", "--headers"]
    folder = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return [f"-DGENFAST_CUDA_INCLUDE={folder}/include"]


def _refuse(*args: object) -> None:
    raise AssertionError("a CPU kernel was called inside emulation()")


@contextmanager
def emulation() -> Iterator[ModuleType]:
    """Inside, every registered op of genfast runs its CUDA kernels, emulated, on CPU tensors."""
    module = emulated_module()
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(module):
            if name.endswith("_cuda"):
                patch.setattr(_C, name, getattr(module, name), raising=False)
                cpu = name.removesuffix("_cuda")
                patch.setattr(_C, cpu, _refuse, raising=False)  # no CPU kernel takes its place
        patch.setattr(_C, "masked_conv2d_workspaces", module.masked_conv2d_workspaces, raising=False)
        for name in ("PixelProgram", "PixelImages", "PixelCudaSampling"):
            patch.setattr(_C, name, getattr(module, name), raising=False)
        patch.setattr(pixel_sampler, "_on_cpu", lambda device: False)
        patch.setattr(_native, "device_and_stream", lambda x: (0, 0))
        library = torch.library.Library("genfast", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
            for name, kernel in _native.CUDA_KERNELS.items():
                library.impl(name, kernel, "CPU", allow_override=True)
        try:
            yield module
        finally:
            library._destroy()


@contextmanager
def shuffled_emulation() -> Iterator[ModuleType]:
    """`emulation` whose threads run in a random order, which is put right again at the end."""
    with emulation() as module:
        module.configure("random", 3)
        yield module
        module.configure("forward", 0)
