"""The command line: what each command leaves, and one clear line for each mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from genfast import cli
from genfast.training import CHECKPOINT, open_run

TRAIN = ["train", "gated-pixelcnn", "--levels", "2", "--channels", "4", "--layers", "2"]
QUICK = [*TRAIN, "--batch-size", "120", "--epochs", "1", "--samples", "4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained class-conditional run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main([*QUICK, "--conditional", "--seed", "3", "--out", str(folder)]) == 0
    return folder


def test_train_passes_its_flags_on(run: Path) -> None:
    config = open_run(run).config
    settings = config.model_settings
    assert (config.levels, settings["channels"], settings["layers"]) == (2, 4, 2)
    assert (config.conditional, config.seed, config.epochs) == (True, 3, 1)
    assert len(list((run / "samples").glob("*.png"))) == 1


def test_train_says_where_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*QUICK, "--max-steps", "1"]) == 0
    assert (tmp_path / "runs/gated-pixelcnn-digits" / CHECKPOINT).exists()
    out = capsys.readouterr().out
    assert "validation" in out
    assert out.endswith("run: runs/gated-pixelcnn-digits\n")


def test_resume_goes_on(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert cli.main([*QUICK, "--max-steps", "2", *out]) == 0
    resume = ["train", "gated-pixelcnn", *out, "--resume"]
    assert cli.main([*resume, "--max-steps", "5"]) == 0
    run = open_run(tmp_path / "run")
    assert len(run.checkpoint.tensors["history.losses"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train"], "MODEL is missing: name it after `train`"),
        (["train", "pixelcnm"], "model: unknown 'pixelcnm'; did you mean pixelcnn or"),
        ([*TRAIN, "--precision", "fp8"], "invalid choice: 'fp8'"),
        ([*TRAIN, "--momentum", "0.9"], "momentum: the optimizer adam has no such setting"),
        ([*TRAIN, "--layers", "0"], "model: layers must be at least 1, got 0"),
        ([*TRAIN, "--accumulate", "7"], "batch_size: must be divisible by the 1 processes times"),
        ([*TRAIN, "--config", "FILE"], "FILE: not a TOML file"),
        ([*TRAIN, "--config", "a.toml"], "a.toml: No such file or directory"),
        ([*TRAIN, "--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        ([*TRAIN, "--lr", "-1"], "lr: must be greater than 0, got -1.0"),
        ([*TRAIN, "--resume"], "--resume needs --out RUN"),
        ([*TRAIN, "--data", "mnits"], "unknown data set 'mnits': give one of digits, mnist"),
        ([*TRAIN, "--data", "mnist"], "GENFAST_DATA"),
        ([*TRAIN, "--data", "mnist", "--data-dir", "EMPTY"], "train-images-idx3-ubyte"),
        ([*TRAIN, "--data", "FILE"], "not an .npz file"),
        ([*TRAIN, "--levels", "99"], "levels must be between 2 and 17, got 99"),
        ([*TRAIN, "--out", "FILE/run"], "cannot write: Not a directory"),
        ([*TRAIN, "--out", "RUN"], "RUN holds a run already: go on with it by --resume"),
        (["train", "gated-pixelcnn", "--out", "EMPTY", "--resume"], "safetensors: not found"),
        (["train", "gated-pixelcnn", "--out", "RUN", "--resume", "--seed", "4"], "seed: a run"),
        (["eval", "EMPTY"], "checkpoint.safetensors: not found"),
        (["eval", "RUN", "--batch-size", "0"], "--batch-size: must be greater than 0, got 0"),
        (["eval", "RUN", "--split", "all"], "invalid choice: 'all'"),
        (["eval", "RUN", "--max-images", "0"], "--max-images: must be greater than 0, got 0"),
        (["eval", "RUN", "--device", "tpu"], "device: must be one of"),
        (["runs", "FILE"], "FILE: no such folder"),
        (["sample", "EMPTY"], "checkpoint.safetensors: not found"),
        (["sample", "RUN", "-n", "0"], "-n: must be 1 or more, got 0"),
        (["sample", "RUN", "--out", "a.bmp"], "--out: must end in .png, .npz or (a folder) in /"),
        (["sample", "RUN", "--start", "-1"], "--start: must be 0 or more, got -1"),
        (["sample", "RUN", "--batch-size", "0"], "--batch-size: must be 1 or more, got 0"),
        (["sample", "RUN", "-n", "1025"], "1,025 images are too many for one grid"),
        (["sample", "RUN", "--out", "a.npz", "--resume"], "--resume: goes on with a folder"),
        (["sample", "RUN", "--out", "FILE/"], "cannot write: Not a directory"),
        (["sample", "RUN", "--out", "RUN"], "is not empty and holds no samples: choose another"),
        (["sample", "RUN", "--given-rows", "8"], "--given-rows: must be 1 to 7, got 8"),
        (["sample", "RUN", "-n", "1", "--out", "FILE/a.npz"], "cannot write: Not a directory"),
        (["sample", "RUN", "--device", "tpu"], "device: must be one of"),
        (["sample", "RUN", "--label", "10"], "--label: must be 0 to 9, got 10"),
        (["sample", "RUN", "--temperature", "0"], "temperature must be positive"),
        (["sample", "RUN", "-n", "1", "--out", "FILE/a.png"], "cannot write: Not a directory"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, run: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.delenv("GENFAST_DATA", raising=False)
    monkeypatch.delenv("GENFAST_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("neither a folder nor an archive")
    (tmp_path / "RUN").symlink_to(run)
    try:
        code = cli.main(arguments)
    except SystemExit as leaving:  # argparse leaves this way
        code = int(leaving.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.startswith("genfast")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {p.name for p in tmp_path.iterdir()} == {"EMPTY", "FILE", "RUN"}


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENFAST_DEBUG", "1")
    with pytest.raises(ValueError, match="not found"):
        cli.main(["eval", "no/such/run"])


@pytest.mark.parametrize(
    ("command", "module"), [("info", "genfast.info"), ("bench", "genfast.benchmarks.run")]
)
def test_info_and_bench_get_their_own_flags(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    stub = types.ModuleType(module)
    stub.main = lambda argv: seen.append(argv) or 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module, stub)
    parent = module.rpartition(".")[0]
    if parent != "genfast":
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    assert cli.main([command, "--json", "--help"]) == 5
    assert seen == [["--json", "--help"]]


def test_help_lists_every_command(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for command in ("info", "bench", "train", "sample", "eval", "runs", "demo"):
        assert f"    {command}" in out


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "genfast", *TRAIN, "--epochs", "100000", "--out", str(out)]
    with subprocess.Popen(
        [*command, "--batch-size", "120", "--sample-every", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch 1, step 10: train ")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert f"go on with: genfast train gated-pixelcnn --out {out} --resume" in error
    assert len(open_run(out).checkpoint.tensors["history.losses"]) >= 10
