"""Runs a list of stages, each with a time budget; what is done is kept and not done again.

The state is one JSON file, rewritten after every stage: whatever stops the run (a time limit, a machine
that is taken away) leaves the results so far, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DONE, FAILED, TIMED_OUT, NOT_RUN = "done", "failed", "timed out", "not run"
SUMMARY = "summary.json"
LEAST_SECONDS = 2.0  # a stage is not begun with less than this left


class StageError(RuntimeError):
    """A stage did not succeed. `facts` is what it had found out before, and is kept."""

    def __init__(
        self, message: str, facts: Mapping[str, Any] | None = None, code: int | None = None
    ) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})
        self.code = code  # that a command ended with


class StageTimeout(StageError):
    """A stage used up its time."""


@dataclass
class Clock:
    """What a stage is given: its time, its log and the results of the stages before it."""

    log: Path
    ends: float
    results: Mapping[str, Mapping[str, Any]]

    @property
    def left(self) -> float:
        return max(0.0, self.ends - time.monotonic())

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Runs a command to its end -> its output, which is in the log too, also if it is cut short."""
        words = [str(word) for word in command]
        with self.log.open("a+b") as log:
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            start = log.tell()
            # A session of its own, so that at the limit its children go with it.
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(self.left)
            except BaseException as stopped:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(stopped, subprocess.TimeoutExpired):
                    raise StageTimeout(f"{words[0]} ran out of time") from None
                raise
            log.seek(start)
            output = log.read().decode(errors="replace")
        if code:
            said = f"{' '.join(words)[:200]} ended with code {code}:\n{output[-3000:]}"
            raise StageError(said, code=code)
        return output


@dataclass(frozen=True)
class Stage:
    """`run` returns JSON-able facts, or raises StageError with those found so far."""

    name: str
    run: Callable[[Clock], dict[str, Any]]
    seconds: float
    needs: tuple[str, ...] = ()  # stages without which this one makes no sense
    always: bool = False  # cheap, and about the machine: done again in every run
    stands: Callable[[], bool] = lambda: True  # whether what it left behind is still there


@dataclass
class Runner:
    """Runs stages within `seconds` in all; `key` names the tree and machine the results are of."""

    folder: Path
    key: str
    seconds: float
    say: Callable[[str], None] = print
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage]) -> dict[str, Any]:
        """Runs what is not done yet -> the summary, as it is in SUMMARY."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ends = time.monotonic() + self.seconds
        known = self._load()
        self.results = {stage.name: known.get(stage.name, {"status": NOT_RUN}) for stage in stages}
        for stage in stages:
            before = self.results[stage.name]
            if before["status"] == DONE and not stage.always and stage.stands():
                self.say(f"{stage.name}: done before, {before['seconds']:.0f} s")
                continue
            result = self.results[stage.name] = self._one(stage, ends)
            self._save()
            self.say(f"{stage.name}: {result['status']}, {result.get('seconds', 0):.0f} s")
            if "error" in result:
                self.say("  " + str(result["error"]).replace("\n", "\n  "))
        return self._save()

    def _one(self, stage: Stage, ends: float) -> dict[str, Any]:
        missing = [name for name in stage.needs if self.results[name]["status"] != DONE]
        if missing:
            return {"status": NOT_RUN, "error": f"it needs what did not succeed: {', '.join(missing)}"}
        started = time.monotonic()
        if ends - started < LEAST_SECONDS:
            return {"status": NOT_RUN, "error": f"no time is left of {self.seconds:.0f} s; run it again"}
        log = self.folder / f"{stage.name}.log"
        log.unlink(missing_ok=True)
        clock = Clock(log, min(ends, started + stage.seconds), self.results)
        result: dict[str, Any]
        try:
            result = {"status": DONE, "facts": stage.run(clock)}
        except StageError as error:
            status = TIMED_OUT if isinstance(error, StageTimeout) else FAILED
            result = {"status": status, "error": str(error), "facts": error.facts}
        except OSError as error:
            result = {"status": FAILED, "error": f"{type(error).__name__}: {error}", "facts": {}}
        return {**result, "seconds": round(time.monotonic() - started, 1)}

    def _load(self) -> dict[str, dict[str, Any]]:
        path = self.folder / SUMMARY
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or cut off while it was written
            return {}
        return dict(state["stages"]) if state.get("key") == self.key else {}

    def _save(self) -> dict[str, Any]:
        good = all(result["status"] == DONE for result in self.results.values())
        summary = {"key": self.key, "passed": good, "stages": self.results}
        text = json.dumps(summary, indent=1) + "\n"
        fresh = self.folder / "summary.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.folder / SUMMARY)
        return summary


def tree_key(root: Path, folders: Sequence[str], files: Sequence[str]) -> str:
    """A hash of every source file that can change a result; build outputs do not count."""
    found = [path for folder in folders for path in (root / folder).rglob("*")]
    found += [root / name for name in files]
    digest = hashlib.sha256()
    for path in sorted(found):
        relative = path.relative_to(root)
        if not path.is_file() or path.suffix in (".so", ".pyc") or "results" in relative.parts:
            continue
        digest.update(f"{relative}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
