"""`make gpu`: builds for this machine's GPU, tests, sanitises and benchmarks it, in under ten minutes.

Run it again to go on: stages that are done are skipped until the tree changes. Everything lies in
build/gpu/ (a log for each stage, summary.json), benchmark results in benchmarks/results/<gpu>.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_machine
from stages import SUMMARY, Clock, Runner, Stage, StageError, StageTimeout, tree_key

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "gpu"
SOURCE, SITE = WORK / "source", WORK / "site"
RESULTS = ROOT / "benchmarks" / "results"
TREE = ("csrc", "genfast", "tests", "benchmarks", "packaging")
TREE_FILES = ("CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE")
SECONDS = 570.0
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
# Tests of the tree and of the emulation; on a GPU they say nothing more than in CI.
NOT_HERE = ("test_wheel.py", "test_gpu_runner.py", "test_contract.py", "test_benchmarks_report.py")
INSTALLED = {"PYTHONPATH": str(SITE)}
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")


def environment(clock: Clock) -> dict[str, Any]:
    facts, wrong = gpu_machine.inspect()
    if wrong:
        raise StageError("this machine cannot run make gpu:\n- " + "\n- ".join(wrong), facts)
    return facts


def build(clock: Clock) -> dict[str, Any]:
    """A wheel-like install into build/gpu/site; the developer's own build is not touched."""
    machine = clock.results["environment"]["facts"]
    for folder in TREE:  # times are kept, so a second build is incremental
        shutil.rmtree(SOURCE / folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "results")
        shutil.copytree(ROOT / folder, SOURCE / folder, ignore=ignored)
    for name in TREE_FILES:
        shutil.copy2(ROOT / name, SOURCE / name)
    shutil.rmtree(SITE, ignore_errors=True)
    archs = gpu_machine.architecture(machine["capability"])
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    clock.run(
        [*pip, "--target", SITE, "."],
        cwd=SOURCE,
        environment={"GENFAST_CUDA": "on", "GENFAST_CUDA_ARCHS": archs, "CUDACXX": machine["nvcc_path"]},
    )
    code = "import json; from genfast import info as i; print(i.__file__); print(json.dumps(i.info()))"
    shown = clock.run([sys.executable, "-c", code], cwd=WORK, environment=INSTALLED)
    where, facts = shown.splitlines()[-2:]
    if not Path(where).is_relative_to(SITE):
        raise StageError(f"{where} is imported instead of the build in {SITE}")
    return {"architectures": archs, "info": json.loads(facts)}


def _pytest(clock: Clock, *arguments: str) -> dict[str, Any]:
    try:
        output = clock.run([*PYTEST, *arguments], cwd=SOURCE / "tests", environment=INSTALLED)
    except StageError as error:
        # Also when it ran out of time: what failed until then is in the log.
        log = clock.log.read_text(errors="replace")
        error.facts = {"failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)}
        raise
    return {"result": output.strip().splitlines()[-1]}


def cuda_tests(clock: Clock) -> dict[str, Any]:
    facts = _pytest(clock, "-m", "cuda", ".")
    if not re.search(r"[1-9]\d* passed", facts["result"]):
        raise StageError(f"no CUDA test ran: {facts['result']}", facts)
    return facts


def suite(clock: Clock) -> dict[str, Any]:
    machine = clock.results["environment"]["facts"]
    parallel = ("-n", str(min(12, machine["cpus"]))) if machine["xdist"] else ()
    left_out = [f"--ignore={name}" for name in NOT_HERE] + ["--ignore-glob=*emulat*"]
    return _pytest(clock, "-m", "not slow and not cuda", *parallel, *left_out, ".")


def sanitizer_command(sanitizer: str, tool: str) -> list[str]:
    """Our kernels alone: torch's would take minutes, and are not ours to mend."""
    options = ["--tool", tool, "--error-exitcode", "9", "--kernel-name", "kns=genfast"]
    if tool == "memcheck":
        options += ["--report-api-errors", "no"]  # torch probes for things that are not there
    return [sanitizer, *options]


def sanitize(tool: str, clock: Clock) -> dict[str, Any]:
    """The canary's planted fault must be found; then the small cases of every op must be clean."""
    sanitizer = clock.results["environment"]["facts"]["compute_sanitizer"]
    if sanitizer is None:
        raise StageError(f"no compute-sanitizer; it is in the wheel {gpu_machine.SANITIZER_WHEEL}")
    command = sanitizer_command(sanitizer, tool)
    canary = WORK / "canary"
    nvcc = clock.results["environment"]["facts"]["nvcc_path"]
    clock.run([nvcc, "-arch=native", "-o", canary, ROOT / "packaging" / "canary.cu"])
    clock.run([canary, "none"])
    try:
        clock.run([*command, canary, tool])
    except StageTimeout:
        raise
    except StageError as found:
        if "ended with code 9" not in str(found):
            raise
    else:
        raise StageError(f"{tool} did not find the fault planted in packaging/canary.cu")
    output = clock.run(
        [*command, sys.executable, ROOT / "packaging" / "small_cases.py"],
        cwd=SOURCE / "tests",
        # Without torch's pool every tensor is an allocation of its own, with bounds of its own.
        environment={
            "PYTHONPATH": f"{SITE}:{SOURCE / 'tests'}",
            "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
        },
    )
    return {"result": [line for line in output.splitlines() if "SUMMARY" in line or "cases" in line]}


def benchmarks(clock: Clock) -> dict[str, Any]:
    """One op after the other, so that those measured in time are kept."""
    gpu = clock.results["environment"]["facts"]["gpu"]
    program = [sys.executable, str(SITE / "bin" / "genfast"), "bench"]
    listed = clock.run(
        [sys.executable, "-c", "from genfast.benchmarks.run import OPS; print(*OPS)"],
        cwd=WORK,
        environment=INSTALLED,
    )
    parts, refused, stopped = [], [], ""
    for op in listed.split():
        part = WORK / f"bench-{op}.json"
        part.unlink(missing_ok=True)
        try:
            command = [*program, op, "--device", "cuda", "--json", str(part)]
            clock.run(command, cwd=WORK, environment=INSTALLED)
        except StageError as error:
            stopped = stopped or f"{op}: {error}"
            refused.append(op)
        if part.is_file():
            parts.append(json.loads(part.read_text(encoding="utf-8")))
        if clock.left == 0:
            break
    path = RESULTS / f"{gpu_machine.result_name(gpu)}.json"
    facts = {"file": str(path.relative_to(ROOT)), "rows": sum(len(part["rows"]) for part in parts)}
    if parts:
        path.write_text(json.dumps(merge(parts), indent=1) + "\n", encoding="utf-8")
    if stopped:
        message = f"not all ops were measured well; first {stopped}"
        kind = StageTimeout if clock.left == 0 else StageError
        raise kind(message, {**facts, "not_measured": refused})
    return facts


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One result file of those of single ops; the commit is this checkout's."""
    whole = {**parts[0], "command": "genfast bench --device cuda"}
    for key in ("rows", "refused"):
        whole[key] = [row for part in parts for row in part[key]]
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    if shutil.which("git") and (ROOT / ".git").exists():
        commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip() or None
        whole["env"] = {**whole["env"], "commit": commit}
    return whole


def stages() -> list[Stage]:
    built = ("environment", "build")
    checks = [Stage(tool, functools.partial(sanitize, tool), 60, built) for tool in SANITIZER_TOOLS]
    return [
        Stage("environment", environment, 60, always=True),
        Stage("build", build, 150, ("environment",)),
        Stage("cuda-tests", cuda_tests, 120, built),
        Stage("benchmarks", benchmarks, 180, built),
        *checks,
        Stage("suite", suite, 180, built),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="copy logs, summary and results into this folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="%(default)s")
    parser.add_argument("--fresh", action="store_true", help="do everything again")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    # Programs of the environment (cmake, ninja) are found also if it is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    driver = gpu_machine.driver_version()
    key = f"{tree_key(ROOT, TREE, TREE_FILES)} {sys.version.split()[0]} driver {driver}"
    summary = Runner(WORK, key, options.seconds, lambda line: print(line, flush=True)).run(stages())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = [*WORK.glob("*.log"), WORK / SUMMARY, WORK / "canary.log"]
        measured = summary["stages"]["benchmarks"].get("facts", {}).get("file")
        found += [ROOT / measured] if measured else []
        for path in found:
            if path.is_file():
                shutil.copyfile(path, options.out / path.name)
    print("make gpu:", "passed" if summary["passed"] else "FAILED; run it again to go on", flush=True)
    return 0 if summary["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
