"""`genfast runs`: every run with its figures, broken ones with what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
from training_runs import start

from genfast import cli
from genfast.training import CHECKPOINT
from genfast.training.checkpoint import read_checkpoint, write_checkpoint
from genfast.training.summaries import Figures, list_runs, read_figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole runs, one of them deep down, and four that are broken, each in its own way."""
    folder = tmp_path_factory.mktemp("runs")
    start(folder / "b", epochs=2).run()
    start(folder / "a/deep/one", epochs=5, max_minutes=1e-9, conditional=False).run()
    for name in ("cut", "foreign", "lost", "unknown"):
        shutil.copytree(folder / "b", folder / name)
    path = folder / "cut" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:500])
    (folder / "foreign" / CHECKPOINT).write_text("not a checkpoint")
    (folder / "lost" / CHECKPOINT).unlink()
    path = folder / "unknown" / CHECKPOINT
    checkpoint = read_checkpoint(path)
    checkpoint.description["config"]["model"]["name"] = "pixelcnm"
    write_checkpoint(path, checkpoint)
    (folder / "no run").mkdir()
    return folder


def test_runs_are_found_at_any_depth_and_sorted(folder: Path) -> None:
    runs = list_runs(folder)
    assert [run.run for run in runs] == ["a/deep/one", "b", "cut", "foreign", "lost", "unknown"]
    for run in runs:
        assert (run.figures is None) == (run.error is not None)
    size = sum(file.stat().st_size for file in (folder / "b").rglob("*") if file.is_file())
    assert runs[1].bytes == size > 1000


def test_figures_are_those_of_the_training(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    trainer.run()
    figures = read_figures(tmp_path / CHECKPOINT)
    validation = trainer.history.validation
    assert list(validation) == [10, 20]
    assert figures == Figures(
        model="gated-pixelcnn",
        data="digits",
        levels=2,
        steps=20,
        epochs=2.0,
        best=min(validation.values()),
        last=validation[20],
        unit="bits/dim",
        images_per_second=pytest.approx(2 * 1199 / trainer.history.seconds[-1]),
        state="finished",
    )
    trainer.history.validation[10] = 0.5  # the best need not be the last
    trainer.save()
    assert read_figures(tmp_path / CHECKPOINT) == replace(figures, best=0.5)


@pytest.mark.parametrize(("max_steps", "state"), [(None, "unfinished"), (3, "finished")])
def test_state_tells_a_run_that_has_steps_left(
    tmp_path: Path, max_steps: int | None, state: str
) -> None:
    trainer = start(tmp_path, max_steps=3)
    trainer.run()
    trainer.config = replace(trainer.config, max_steps=max_steps)
    trainer.save()
    assert read_figures(tmp_path / CHECKPOINT).state == state


def test_a_run_that_early_stopping_ended_is_finished(tmp_path: Path) -> None:
    trainer = start(tmp_path, epochs=9, early_stopping=1)
    trainer.history.losses, trainer.history.seconds = [1.0] * 20, [0.1] * 20
    for last, state in ((0.9, "unfinished"), (1.1, "finished")):
        trainer.history.validation = {10: 1.0, 20: last}
        trainer.save()
        assert read_figures(tmp_path / CHECKPOINT).state == state


def test_a_run_that_has_not_begun_has_no_figures(folder: Path) -> None:
    figures = list_runs(folder)[0].figures
    assert figures is not None
    assert (figures.steps, figures.epochs, figures.state) == (0, 0.0, "unfinished")
    assert figures.best is figures.last is figures.images_per_second is None


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("cut", "checkpoint.safetensors: cut short or not a safetensors file"),
        ("foreign", "checkpoint.safetensors: cut short or not a safetensors file"),
        ("lost", "checkpoint.safetensors: not found"),
        ("unknown", "checkpoint.safetensors: its model, settings or history are not of this genfast"),
    ],
)
def test_broken_runs_say_what_is_wrong(folder: Path, name: str, error: str) -> None:
    run = next(run for run in list_runs(folder) if run.run == name)
    assert run.error is not None
    assert run.error.startswith(error)


def test_no_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    opened = safetensors.safe_open

    class Watched:
        def __init__(self, *arguments: Any) -> None:
            self.file = opened(*arguments)

        def __enter__(self) -> Watched:
            self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.__exit__(*error)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, name: str) -> Any:
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    list_runs(folder / "b")
    assert read
    assert all(name.startswith("history.") for name in read)


def test_the_table_has_every_run(folder: Path, capsys: Any) -> None:
    assert cli.main(["runs", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("run", "model", "data", "levels", "steps", "epochs", "best", "last", "unit", "images/s"),
        *("state", "size", "when"),
    ]
    assert lines[1].split()[:10] == [
        *("a/deep/one", "gated-pixelcnn", "digits", "2", "0", "0.0", "-", "-", "bits/dim", "-"),
    ]
    figures = list_runs(folder / "b")[0].figures
    assert figures is not None
    assert figures.best is not None
    assert lines[2].split()[5:7] == ["2.0", f"{figures.best:.4f}"]
    assert lines[2].index("bits/dim") == lines[1].index("bits/dim") == lines[0].index("unit")
    broken = [line.split(": ")[1] for line in lines[3:]]
    assert broken == ["cut", "foreign", "lost", "unknown"]
    assert all(line.startswith("broken: ") for line in lines[3:])


def test_json_holds_the_same(folder: Path, capsys: Any) -> None:
    assert cli.main(["runs", str(folder), "--json", "--sort", "best"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert runs[0]["run"] == "b"  # the only one with a figure
    assert {run["run"] for run in runs} == {"a/deep/one", "b", "cut", "foreign", "lost", "unknown"}
    expected = list_runs(folder / "b")[0].figures
    assert expected is not None
    assert runs[0]["figures"]["best"] == expected.best
    assert runs[0]["error"] is None


def test_sorted_by_time(tmp_path: Path, capsys: Any) -> None:
    for name, time in (("x", 2e9), ("y", 1e9)):
        start(tmp_path / name)
        for file in (*(tmp_path / name).rglob("*"), tmp_path / name):
            os.utime(file, (time, time))
    assert cli.main(["runs", str(tmp_path), "--json", "--sort", "when"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)] == ["y", "x"]


def test_a_folder_without_runs(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"
    assert cli.main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
