"""`make gpu`: builds for this machine's GPU, tests, sanitises and benchmarks it, in under ten minutes.

Run it again to go on: stages that are done are skipped until the tree changes, and so are rows of
benchmarks. Everything lies in build/gpu/ (a log for each stage, summary.json), benchmark results in
benchmarks/results/<gpu>.json. With --out all of it is also packed into three files, of which
gpu.tar.gz can be unpacked into the root of the tree on another such machine, to go on there.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import gpu_machine
from check_cuda import program_command
from gpu_results import pack, to_be_committed
from stages import Clock, Runner, Stage, StageError, StageTimeout, tree_key

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "gpu"
SOURCE, SITE = WORK / "source", WORK / "site"
RESULTS = ROOT / "benchmarks" / "results"
TREE = ("csrc", "genfast", "tests", "benchmarks", "packaging")
TREE_FILES = ("CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE")
READ_BY_TESTS = ("docs", "recipes")  # which no result depends on
SECONDS = 570.0
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
# Tests of the tree and of the emulation; on a GPU they say nothing more than in CI.
NOT_HERE = (
    "test_wheel.py", "test_gpu_runner.py", "test_gpu_stages.py", "test_contract.py",
    "test_benchmarks_report.py", "test_benchmarks_cuda.py",
    "test_gaussian_kl_cuda.py", "test_gaussian_mixture_cuda.py",
)  # fmt: skip
CONSTANTS = WORK / "constants.json"
NOT_RUN_DRY = "needs a GPU, so not run"
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")
BENCH_GOES_ON = 3  # LOST of benchmarks/run.py: what it ends with where another process can go on


def installed(*more: Path) -> dict[str, str]:
    """The environment of programs that use the build: it comes first, then what the caller had."""
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {"PYTHONPATH": os.pathsep.join([str(SITE), *map(str, more), *known])}


def environment(dry: bool, clock: Clock) -> dict[str, Any]:
    facts, wrong = gpu_machine.inspect()
    if dry:  # as if for an H200; what is missing besides a GPU is still an error
        wrong = [problem for problem in wrong if not gpu_machine.is_about_the_gpu(problem)]
        facts |= {"dry": True, "gpu": "no GPU", "capability": [9, 0]}
    if wrong:
        raise StageError("this machine cannot run make gpu:\n- " + "\n- ".join(wrong), facts)
    return facts


def _dry(clock: Clock) -> bool:
    return "dry" in clock.results["environment"]["facts"]


def build(clock: Clock) -> dict[str, Any]:
    """A wheel-like install into build/gpu/site; the developer's own build is not touched."""
    machine = clock.results["environment"]["facts"]
    SOURCE.mkdir(parents=True, exist_ok=True)
    for folder in (*TREE, *READ_BY_TESTS):  # times are kept, so a second build is incremental
        shutil.rmtree(SOURCE / folder, ignore_errors=True)
        kept_back = () if folder in READ_BY_TESTS else ("results",)
        ignored = shutil.ignore_patterns("__pycache__", "*.so", *kept_back)
        if (ROOT / folder).is_dir():
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
    shown = clock.run([sys.executable, "-c", code], cwd=WORK, environment=installed())
    where, facts = shown.splitlines()[-2:]
    if not Path(where).is_relative_to(SITE):
        raise StageError(f"{where} is imported instead of the build in {SITE}")
    return {"architectures": archs, "info": json.loads(facts)}


def _pytest(clock: Clock, *arguments: str) -> dict[str, Any]:
    try:
        # No compiler processes: they are forked, which a warning of Python 3.12 makes an error here.
        environment = installed() | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        output = clock.run([*PYTEST, *arguments], cwd=SOURCE / "tests", environment=environment)
    except StageError as error:
        # Also when it ran out of time: what failed until then is in the log.
        log = clock.log.read_text(errors="replace")
        error.facts = {"failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)}
        raise
    return {"result": output.strip().splitlines()[-1]}


def _program(clock: Clock, name: str) -> Path:
    """One of check_cuda's programs, built for this machine's GPU."""
    machine = clock.results["environment"]["facts"]
    architecture = "sm_" + gpu_machine.architecture(machine["capability"])
    built = WORK / name
    clock.run(program_command(Path(machine["nvcc_path"]), ROOT, name, architecture, built))
    return built


def _json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def fragments(clock: Clock) -> dict[str, Any]:
    """What the emulation takes for granted, held against the device; see workload_checks.h."""
    program = _program(clock, "fragments")
    if _dry(clock):
        return {"built": True, NOT_RUN_DRY: "the program"}
    try:
        output = clock.run([program])
    except StageError as error:
        found = _json_lines(clock.log.read_text(errors="replace"))
        error.facts = {"checks": found, "failed": [c["check"] for c in found if not c["passed"]]}
        raise
    return {"checks": _json_lines(output)}


def constants(clock: Clock) -> dict[str, Any]:
    """The measured constants of the GPU; those known when time runs out are kept."""
    program = _program(clock, "constants")
    if _dry(clock):
        return {"built": True, NOT_RUN_DRY: "the program"}
    try:
        lines = _json_lines(clock.run([program]))
    except StageError as error:
        lines = _json_lines(clock.log.read_text(errors="replace"))
        error.facts = {"constants": lines}
        raise
    finally:
        CONSTANTS.write_text(clock.log.read_text(errors="replace"), encoding="utf-8")
    return {"constants": lines}


def _parallel(clock: Clock, most: int) -> tuple[str, ...]:
    machine = clock.results["environment"]["facts"]
    return ("-n", str(min(most, machine["cpus"]))) if machine["xdist"] else ()


def cuda_tests(clock: Clock) -> dict[str, Any]:
    if _dry(clock):
        return _pytest(clock, "--collect-only", "-m", "cuda", ".") | {NOT_RUN_DRY: "the tests"}
    # Some processes share the GPU: what takes time is the host's (compilers, opcheck).
    # A warning that this torch has for this GPU is no fault of a kernel: it is in the log.
    facts = _pytest(clock, "-m", "cuda", "-W", "default", *_parallel(clock, 8), ".")
    if not re.search(r"[1-9]\d* passed", facts["result"]):
        raise StageError(f"no CUDA test ran: {facts['result']}", facts)
    return facts


def suite(clock: Clock) -> dict[str, Any]:
    if _dry(clock):
        return {NOT_RUN_DRY: "the suite; make test runs it"}
    if missing := clock.results["environment"]["facts"].get("missing_for_suite"):
        names = " ".join(missing)
        raise StageError(f"missing wheels: {names}; install them: pip install {names}")
    left_out = [f"--ignore={name}" for name in NOT_HERE] + ["--ignore-glob=*emulat*"]
    chosen = ("-m", "not slow and not cuda", "-k", "not emulated")
    return _pytest(clock, *chosen, *_parallel(clock, 12), *left_out, ".")


def sanitizer_command(sanitizer: str, tool: str) -> list[str]:
    """Our kernels alone: torch's would take minutes, and are not ours to mend."""
    options = ["--tool", tool, "--error-exitcode", "9", "--kernel-name", "kns=genfast"]
    if tool == "memcheck":
        options += ["--report-api-errors", "no"]  # torch probes for things that are not there
    return [sanitizer, *options]


def sanitize(tool: str, clock: Clock) -> dict[str, Any]:
    """The canary's planted fault must be found; then the small cases of every op must be clean."""
    sanitizer = clock.results["environment"]["facts"]["compute_sanitizer"]
    if sanitizer is None and not _dry(clock):
        raise StageError(f"no compute-sanitizer; it is in the wheel {gpu_machine.SANITIZER_WHEEL}")
    command = sanitizer_command(sanitizer, tool)
    canary = _program(clock, "canary")
    if _dry(clock):
        return {"built": True, NOT_RUN_DRY: "compute-sanitizer"}
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
            **installed(SOURCE / "tests"),
            "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
        },
    )
    return {"result": [line for line in output.splitlines() if "SUMMARY" in line or "cases" in line]}


def benchmarks(key: str, compiled: bool, clock: Clock) -> dict[str, Any]:
    """All ops, those cases first that matter most; rows of the same tree are not measured again.

    torch.compile takes most of the time: its sides are added to rows that are there. A case that breaks
    the GPU's context, or never ends, ends the process; the next one goes on without it.
    """
    gpu = clock.results["environment"]["facts"]["gpu"]
    program = [sys.executable, str(SITE / "bin" / "genfast"), "bench"]
    if _dry(clock):
        listed = [sys.executable, "-c", "from genfast.benchmarks.run import OPS; print(*OPS)"]
        ops = clock.run(listed, cwd=WORK, environment=installed()).split()
        return {"ops": ops, NOT_RUN_DRY: "the benchmarks"}
    part = WORK / "bench" / key.split()[0] / "rows.json"
    part.parent.mkdir(parents=True, exist_ok=True)
    options = ["--device", "cuda", "--json", str(part), "--resume"]
    options += [] if compiled else ["--no-compile"]
    options += ["--constants", str(CONSTANTS)] if CONSTANTS.is_file() else []
    error: StageError | None = None
    code = BENCH_GOES_ON
    while code == BENCH_GOES_ON:
        code = None
        try:
            clock.run([*program, *options], cwd=WORK, environment=installed())
        except StageError as stopped:
            error, code = error or stopped, stopped.code
    path = RESULTS / f"{gpu_machine.result_name(gpu)}.json"
    facts: dict[str, Any] = {"file": str(path.relative_to(ROOT)), "rows": 0}
    if part.is_file():  # also if the rest was killed: it is written row by row
        result = json.loads(part.read_text(encoding="utf-8"))
        facts |= {"rows": len(result["rows"]), "refused": result["refused"]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_be_committed(result, ROOT), indent=1) + "\n", encoding="utf-8")
    if error is not None:
        error.facts = facts
        raise error
    return facts


def stages(key: str, dry: bool = False) -> list[Stage]:
    """In the order of what one wants to know first, should time run out."""
    here, built = ("environment",), ("environment", "build")
    checks = [Stage(tool, functools.partial(sanitize, tool), 60, built) for tool in SANITIZER_TOOLS]
    return [
        Stage("environment", functools.partial(environment, dry), 60, always=True),
        Stage("fragments", fragments, 60, here),
        Stage("build", build, 150, here, stands=lambda: (SITE / "genfast").is_dir()),
        Stage("constants", constants, 60, here),
        Stage("cuda-tests", cuda_tests, 150, built),
        Stage("benchmarks", functools.partial(benchmarks, key, False), 210, built),
        *checks,
        Stage("compiled", functools.partial(benchmarks, key, True), 400, built),
        Stage("suite", suite, 300, built),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="leave summary, results and gpu.tar.gz in this folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="%(default)s")
    parser.add_argument(
        "--dry-run", action="store_true", help="without a GPU: build and collect all, run nothing"
    )
    parser.add_argument("--fresh", action="store_true", help="do everything again")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    # Programs of the environment (cmake, ninja) are found also if it is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    driver = gpu_machine.driver_version()
    key = f"{tree_key(ROOT, TREE, TREE_FILES)} {sys.version.split()[0]} driver {driver}"
    listed = stages(key, options.dry_run)
    if options.dry_run:  # no stage of it stands for a real one; compilers may take their time here
        key += " dry"
        listed = [dataclasses.replace(stage, seconds=options.seconds) for stage in listed]
    summary = Runner(WORK, key, options.seconds, lambda line: print(line, flush=True)).run(listed)
    for name, result in summary["stages"].items() if options.dry_run else ():
        if what := result.get("facts", {}).get(NOT_RUN_DRY):
            print(f"{name}: {NOT_RUN_DRY}: {what}", flush=True)
    if options.out:
        pack(options.out, summary, ROOT, WORK)
    print(
        "dry run:" if options.dry_run else "make gpu:",
        "passed" if summary["passed"] else "FAILED; run it again to go on",
        flush=True,
    )
    return 0 if summary["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
