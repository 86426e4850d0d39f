"""What must hold of a repaired wheel before it may be published. Every function raises WheelError."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

MAX_BYTES = 25 * 1024 * 1024
_TORCH = re.compile(r"torch|c10|N2at|aten|THP", re.IGNORECASE)
# Libraries a manylinux wheel may take from the machine, apart from what auditwheel has put inside.
_SYSTEM = re.compile(r"lib(c|m|dl|rt|pthread|gcc_s)\.so|ld-linux")


class WheelError(RuntimeError):
    """A wheel that must not be published; the message says which rule it breaks."""


def platform_tags(wheel: Path) -> list[str]:
    """The platform tags in the name of the file: a.b in name-version-py-abi-a.b.whl."""
    return wheel.stem.split("-")[-1].split(".")


def extract_module(wheel: Path, folder: Path) -> Path:
    """Unpacks the wheel and returns its one native module, genfast/_C*.so."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    modules = sorted((folder / "genfast").glob("*.so"))
    if [module.name.partition(".")[0] for module in modules] != ["_C"]:
        raise WheelError(f"genfast/ must hold one module, _C, and has {[m.name for m in modules]}")
    return modules[0]


def check_size(wheel: Path) -> int:
    size = wheel.stat().st_size
    if size >= MAX_BYTES:
        raise WheelError(
            f"{wheel.name} has {size / 2**20:.1f} MB, the limit is {MAX_BYTES / 2**20:.0f} MB"
        )
    return size


def check_tag(wheel: Path, auditwheel_show: str) -> str:
    """The tag in the name must be manylinux and be what `auditwheel show` finds the wheel to be."""
    tags = platform_tags(wheel)
    found = re.search(r'consistent with\s+the\s+following platform tag:\s+"(\w+)"', auditwheel_show)
    if found is None:
        raise WheelError(f"auditwheel show names no platform tag:\n{auditwheel_show}")
    if not found[1].startswith("manylinux") or found[1] not in tags:
        raise WheelError(f"the file is named {', '.join(tags)}, auditwheel finds {found[1]}")
    return found[1]


def check_symbols(defined: Iterable[str], undefined: Iterable[str]) -> None:
    """Exports PyInit__C alone; asks for nothing of torch and for no C++ runtime."""
    exported = sorted(defined)
    if exported != ["PyInit__C"]:
        raise WheelError(
            f"_C must export PyInit__C alone, and exports {', '.join(exported) or 'nothing'}"
        )
    undefined = list(undefined)
    for what, found in (
        ("torch", [name for name in undefined if _TORCH.search(name)]),
        ("libstdc++", [name for name in undefined if "GLIBCXX" in name or "CXXABI" in name]),
        ("libcuda", [name for name in undefined if re.match(r"cu[A-Z]\w+$", name)]),
    ):
        if found:
            raise WheelError(f"_C needs symbols of {what}: {', '.join(found[:5])}")


def check_libraries(needed: Iterable[str], bundled: Iterable[str]) -> None:
    """Every library the module needs is the system's or inside the wheel; no libcuda is inside."""
    inside = set(bundled)
    driver = sorted(name for name in inside if name.startswith(("libcuda.", "libcuda-", "libnvidia")))
    if driver:
        raise WheelError(f"the driver's library must not be packed: {', '.join(driver)}")
    outside = [name for name in needed if name not in inside and not _SYSTEM.match(name)]
    if outside:
        raise WheelError(f"_C needs libraries that are not in the wheel: {', '.join(outside)}")


def check_architectures(listing: str, stated: list[str]) -> list[str]:
    """SASS for exactly the stated architectures and PTX of the last; `listing` is cuobjdump's."""
    sass = {found[1] for found in re.finditer(r"\.sm_(\w+)\.cubin", listing)}
    ptx = {found[1] for found in re.finditer(r"\.sm_(\w+)\.ptx", listing)}
    if sass != set(stated) or ptx != ({stated[-1]} if stated else set()):
        raise WheelError(
            f"stated architectures {';'.join(stated) or 'none'} and PTX of the last, "
            f"inside are {';'.join(sorted(sass)) or 'none'} and PTX of {';'.join(sorted(ptx)) or 'none'}"
        )
    return sorted(sass, key=stated.index)


def check_module(module: Path) -> None:
    """The rules on symbols and libraries, read by binutils' nm and objdump."""
    check_symbols(_symbols(module, "--defined-only"), _symbols(module, "--undefined-only"))
    headers = _output("objdump", "-p", str(module))
    needed = re.findall(r"^\s*NEEDED\s+(\S+)", headers, re.MULTILINE)
    libraries = module.parents[1] / "genfast.libs"
    check_libraries(needed, [path.name for path in libraries.glob("*")])


def _symbols(module: Path, which: str) -> list[str]:
    text = _output("nm", "--format=posix", "-D", which, str(module))
    return [line.split()[0] for line in text.splitlines()]


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise WheelError(f"{command[0]} is not installed; it is part of binutils") from None
