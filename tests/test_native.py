"""The binary, what importing the package does, and what its public names promise."""

from __future__ import annotations

import inspect
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import genfast
from genfast import _C
from genfast.ops import _native

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


# ---- symbols -------------------------------------------------------------------------------------


def symbols(path: str, *options: str) -> list[tuple[str, str]]:
    """(type, name) of each, as nm prints them."""
    result = run("nm", "--format=posix", *options, path)
    assert result.returncode == 0, result.stderr
    return [(line.split()[1], line.split()[0]) for line in result.stdout.splitlines()]


def test_exports_nothing_but_the_init_function() -> None:
    assert [name for _, name in symbols(_C.__file__, "-D", "--defined-only")] == ["PyInit__C"]


def test_knows_nothing_of_torch() -> None:
    undefined = [name for _, name in symbols(_C.__file__, "-D", "--undefined-only")]
    assert any(name.startswith("PyErr_") for name in undefined)
    assert not [name for name in undefined if re.search(r"torch|c10|2at\d|3at[0-9]|THP|aten", name)]


def test_needs_no_cxx_runtime_but_its_own() -> None:
    """libstdc++ is inside, so that an older one on the machine does not matter."""
    undefined = [name for _, name in symbols(_C.__file__, "-D", "--undefined-only")]
    assert not [name for name in undefined if "GLIBCXX" in name or "CXXABI" in name]


BUILD = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}" / "CMakeFiles"
KERNELS = [] if _C.build_info()["sanitize"] else sorted(BUILD.glob("kernels_*.dir/**/*_cpu.cpp.o"))

if KERNELS:  # an installed package has no object files to look into
    each_object = pytest.mark.parametrize(
        "path", [str(path) for path in KERNELS], ids=[f"{p.parts[-4]}-{p.name}" for p in KERNELS]
    )

    # In the mangled names of GCC and Clang: genfast::SpinBarrier::wait, of common/parallel.cpp.
    BUILT_ONCE = {"_ZN7genfast11SpinBarrier4waitEj"}

    @each_object
    def test_kernels_share_no_code(path: str) -> None:
        """No weak symbol, such as an inline function or template of a header.

        The linker keeps one copy of each, perhaps the AVX-512 one, and an older CPU would die of it. For
        the same reason a kernel calls nothing outside but libc, libm, libgcc and OpenMP, which are not
        ours to compile at some level, and what is compiled once, for the baseline.
        """
        found = symbols(path)
        assert not [name for kind, name in found if kind in "WwVvu"]
        outside = {name for kind, name in found if kind == "U"}
        assert outside <= {
            "GOMP_parallel", "GOMP_barrier", "omp_get_num_threads", "omp_get_thread_num",
            "exp", "exp2", "expm1", "ldexp", "log", "log2", "tanh",
            "expf", "logf", "tanhf", "nearbyintf",
            "memcpy", "memset", "calloc", "free", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail",
            "__popcountdi2",  # without an instruction for it
            *BUILT_ONCE,
        }  # fmt: skip

    if platform.machine() in ("x86_64", "AMD64"):

        @each_object
        def test_kernels_use_the_registers_of_their_level(path: str) -> None:
            text = run("objdump", "-d", "--no-show-raw-insn", path).stdout
            widest = max(
                (width for width, name in enumerate(("%xmm", "%ymm", "%zmm")) if name in text),
                default=-1,
            )
            level = re.search(r"kernels_(\w+)\.dir", path)
            assert level is not None
            assert widest == {"baseline": 0, "avx2": 1, "avx512": 2}[level[1]]


# ---- choice of instruction set -------------------------------------------------------------------

# Loads the module by its path: no torch, so it is quick, and shows that none is needed.
LOAD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("genfast._C", {_C.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "torch" not in sys.modules
print(module.current_isa())
"""


@pytest.mark.parametrize("isa", _C.runnable_isas())
def test_environment_chooses_the_isa(isa: str) -> None:
    result = run(sys.executable, "-c", LOAD, GENFAST_CPU_ISA=isa)
    assert (result.stdout.strip(), result.stderr) == (isa, "")


def test_best_isa_is_chosen_unasked() -> None:
    for unset in ({"GENFAST_CPU_ISA": ""}, {}):
        environment = {k: v for k, v in os.environ.items() if k != "GENFAST_CPU_ISA"}
        result = subprocess.run(
            [sys.executable, "-c", LOAD], env={**environment, **unset}, capture_output=True, text=True
        )
        assert result.stdout.strip() == _C.runnable_isas()[-1]


def test_unknown_isa_is_an_error_that_names_the_known() -> None:
    result = run(sys.executable, "-c", LOAD, GENFAST_CPU_ISA="sse9")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert re.match("ImportError|ValueError", last)
    assert "GENFAST_CPU_ISA=sse9" in last
    assert ", ".join(_C.runnable_isas()) in last
    with pytest.raises(ValueError, match=r"sse9.*baseline"):
        _C.set_isa("sse9")


# ---- import --------------------------------------------------------------------------------------

WATCH_IMPORT = """
import sys
import numpy, torch
before = set(sys.modules)
import genfast
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - sys.stdlib_module_names), torch.cuda.is_initialized())
"""


def test_import_brings_torch_and_numpy_alone() -> None:
    """No other package is loaded, and CUDA is left alone: it would poison forks."""
    result = run(sys.executable, "-W", "error", "-c", WATCH_IMPORT)
    assert (result.stdout.strip(), result.stderr) == ("['genfast'] False", "")


# ---- the package ---------------------------------------------------------------------------------


def public_names(module: ModuleType) -> list[tuple[str, object]]:
    return [
        (f"{module.__name__}.{name}", value)
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
    ]


EXPORTED = [
    item
    for module in (genfast.ops, genfast.reference, genfast.nn, genfast.models, genfast.sampling)
    for item in public_names(module)
]


def test_names_are_exported() -> None:
    names = {name for name, _ in EXPORTED}
    assert names >= {"genfast.ops.gated_activation", "genfast.nn.MaskedConv2d"}


@pytest.mark.parametrize(("name", "value"), EXPORTED, ids=[name for name, _ in EXPORTED])
def test_public_names_have_an_example(name: str, value: object) -> None:
    doc = value.__doc__ or ""
    assert len(doc.strip().splitlines()[0]) > 10
    assert ">>> " in doc


def test_every_package_is_packed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "genfast").rglob("*.py")}
    expected = {".".join(folder.parts) for folder in folders} | {"genfast.benchmarks"}
    assert set(listed["tool"]["setuptools"]["packages"]) == expected


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("80 90a", (8, 0), True),
        ("80 90a", (8, 6), True),  # code for sm_80 runs on every 8.x
        ("80 90a", (9, 0), True),
        ("80 90a", (10, 0), False),  # 90a runs on nothing else, and its PTX neither
        ("80 90a 120", (12, 1), True),
        ("80 90a 120", (13, 0), True),  # by way of the PTX of the last
        ("90a", (8, 0), False),
        ("80", (7, 5), False),
        ("86", (8, 0), False),
    ],
)
def test_which_gpus_a_build_runs_on(architectures, capability, runs) -> None:
    reason = _C.unsupported_device(architectures, *capability)
    assert (reason == "") == runs
    if not runs:
        major, minor = capability
        assert f"{major}.{minor}" in reason
        assert architectures in reason
        assert f"GENFAST_CUDA_ARCHS={major}{minor}" in reason


def test_a_build_without_cuda_code_says_how_to_get_it() -> None:
    with pytest.raises(RuntimeError, match=r"gated_activation.*no CUDA code.*GENFAST_CUDA=on"):
        _native._without_cuda("gated_activation")(torch.ones(2))
