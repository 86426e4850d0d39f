"""The wheel: what is checked before one is published, and the op suite on an installed one."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"


def script(name: str) -> ModuleType:
    """A module of packaging/, which is a folder of scripts and no package."""
    spec = importlib.util.spec_from_file_location(f"genfast_{name}", ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checks = script("wheel_checks")

# ---- the checks ----------------------------------------------------------------------------------

SHOWN = """genfast.whl is consistent with
the following platform tag: "manylinux_2_28_x86_64".
"""


def test_tag_must_be_true() -> None:
    true = Path("genfast-0.1.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    assert checks.check_tag(true, SHOWN) == "manylinux_2_28_x86_64"
    several = true.with_name(true.name.replace("manylinux", "manylinux2014_x86_64.manylinux"))
    assert checks.check_tag(several, SHOWN) == "manylinux_2_28_x86_64"
    with pytest.raises(checks.WheelError, match=r"manylinux_2_17_x86_64.*finds manylinux_2_28"):
        checks.check_tag(true.with_name(true.name.replace("_28_", "_17_")), SHOWN)
    with pytest.raises(checks.WheelError, match="finds linux_x86_64"):
        checks.check_tag(true, SHOWN.replace("manylinux_2_28", "linux"))
    with pytest.raises(checks.WheelError, match="names no platform tag"):
        checks.check_tag(true, "")


def test_size_is_limited(tmp_path: Path) -> None:
    wheel = tmp_path / "genfast.whl"
    wheel.write_bytes(b"x" * 1000)
    assert checks.check_size(wheel) == 1000
    with wheel.open("wb") as sparse:
        sparse.truncate(checks.MAX_BYTES)
    with pytest.raises(checks.WheelError, match=r"25\.0 MB, the limit is 25 MB"):
        checks.check_size(wheel)


@pytest.mark.parametrize(
    ("defined", "undefined", "message"),
    [
        (["PyInit__C", "leaked"], [], "exports PyInit__C, leaked"),
        ([], [], "exports nothing"),
        (["PyInit__C"], ["_ZN2at6Tensor3addE"], "symbols of torch: _ZN2at6Tensor"),
        (["PyInit__C"], ["_ZN3c105ErrorE"], "symbols of torch"),
        (["PyInit__C"], ["_ZSt4cout@GLIBCXX_3.4"], r"symbols of libstdc\+\+"),
        (["PyInit__C"], ["cuLaunchKernel"], "symbols of libcuda: cuLaunchKernel"),
    ],
)
def test_symbols_that_must_not_be(defined: list[str], undefined: list[str], message: str) -> None:
    checks.check_symbols(["PyInit__C"], ["PyErr_SetString", "expf@GLIBC_2.27", "GOMP_parallel@GOMP_4.0"])
    with pytest.raises(checks.WheelError, match=message):
        checks.check_symbols(defined, undefined)


def test_libraries_are_inside_or_the_systems() -> None:
    system = ["libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2", "libgcc_s.so.1"]
    checks.check_libraries([*system, "libgomp-f9a9ad78.so.1.0.0"], ["libgomp-f9a9ad78.so.1.0.0"])
    with pytest.raises(checks.WheelError, match=r"not in the wheel: libcudart\.so\.13"):
        checks.check_libraries([*system, "libcudart.so.13"], [])
    with pytest.raises(checks.WheelError, match=r"must not be packed: libcuda-1234\.so\.1"):
        checks.check_libraries(system, ["libcuda-1234.so.1"])


LISTED = """ELF file    1: t.1.sm_80.cubin
ELF file    2: t.2.sm_90a.cubin
ELF file    3: u.1.sm_80.cubin
PTX file    1: t.1.sm_90a.ptx
"""


def test_architectures_are_those_stated() -> None:
    assert checks.check_architectures(LISTED, ["80", "90a"]) == ["80", "90a"]
    assert checks.check_architectures("", []) == []
    for stated in (["80"], ["80", "90a", "100"], ["90a", "80"], ["80", "90"]):
        with pytest.raises(checks.WheelError, match="stated architectures"):
            checks.check_architectures(LISTED, stated)


def test_one_module_and_no_more(tmp_path: Path) -> None:
    wheel = tmp_path / "genfast.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("genfast/_C.abi.so", b"")
        packed.writestr("genfast/_emulated.abi.so", b"")
    with pytest.raises(checks.WheelError, match="_emulated"):
        checks.extract_module(wheel, tmp_path / "unpacked")


# ---- the wheel itself ----------------------------------------------------------------------------


def newest_change() -> float:
    """When anything that goes into the wheel was last changed."""
    inputs = [*(ROOT / "csrc").rglob("*"), *(ROOT / "genfast").rglob("*.py*"), *ROOT.glob("*.t*ml")]
    inputs += [ROOT / "CMakeLists.txt", ROOT / "setup.py", *(ROOT / "benchmarks").glob("*.py")]
    return max(path.stat().st_mtime for path in inputs if path.is_file() and path.suffix != ".pyc")


@pytest.mark.slow
def test_op_suite_on_the_installed_wheel(tmp_path: Path) -> None:
    """An empty environment with the pinned torch; nothing of the tree but a copy of the tests."""
    wheels = sorted(
        (ROOT / "dist").glob(f"genfast-*-{TAG}-*.whl"), key=lambda path: path.stat().st_mtime
    )
    if not wheels or wheels[-1].stat().st_mtime < newest_change():
        made = subprocess.run(
            [sys.executable, ROOT / "packaging" / "wheel.py"], capture_output=True, text=True
        )
        assert made.returncode == 0, made.stdout + made.stderr
        wheels = [Path(made.stdout.split(".whl")[0].splitlines()[-1] + ".whl")]
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "packaging" / "try_wheel.py", "--work", tmp_path),
            *("--wheel", wheels[-1], "--torch", pinned[1]),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(rf"torch {re.escape(pinned[1])} ok", done.stdout)
    assert "CPU kernels" in done.stdout  # what `genfast info` prints
