"""Initial weights from data: PixelCNN++ in a run. And every model through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import run_ranks
from training_runs import assert_same_run, config, start, weights

from genfast import cli
from genfast.models import MODELS, PixelCNNPP
from genfast.models.autoregressive import AutoregressiveModel
from genfast.training import Trainer, open_run
from genfast.training.batches import take_batch

SMALL: dict[str, dict[str, int]] = {
    "pixelcnn": {"channels": 8, "layers": 1},
    "gated-pixelcnn": {"channels": 4, "layers": 2},
    "pixelcnn-pp": {"filters": 4, "resnets": 1, "resolutions": 2, "mixtures": 2},
    "pixel-rnn": {"hidden": 4, "layers": 1},
}
PP: dict[str, Any] = {
    "model": "pixelcnn-pp",
    "levels": 17,
    "model_settings": {**SMALL["pixelcnn-pp"], "dropout": 0.0},
}


def test_the_first_batch_sets_gains_and_biases(tmp_path: Path) -> None:
    trainer = start(tmp_path / "run", **PP)
    model, batches = trainer.model, trainer.batches
    assert isinstance(model, PixelCNNPP)
    images, labels = take_batch(trainer.data, batches.index(0), 0, trainer.config)
    with torch.no_grad():
        outputs = model._outputs(images, labels)
    mean, deviation = outputs.mean((0, 2, 3)), outputs.std((0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=0, atol=1e-3)


def test_a_resumed_run_keeps_its_initial_weights(tmp_path: Path) -> None:
    """Also one that stopped before its first step; dropout on, whose noise must be the same too."""
    settings = {**PP, "model_settings": {**PP["model_settings"], "dropout": 0.5}, "ema": 0.9}
    whole = start(tmp_path / "whole", **settings, max_steps=4)
    assert whole.run()
    initial = weights(start(tmp_path / "parts", **settings, max_steps=2))
    resumed = Trainer.resume(tmp_path / "parts", quiet=True)
    assert all(torch.equal(value, initial[name]) for name, value in weights(resumed).items())
    assert resumed.run()
    resumed = Trainer.resume(tmp_path / "parts", quiet=True, max_steps=4)
    assert resumed.run()
    assert_same_run(resumed, whole)


def test_processes_start_from_the_same_weights(tmp_path: Path) -> None:
    alone = start(tmp_path / "alone", **PP, max_steps=3)
    assert alone.run()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in PP["model_settings"].items()]
    common = ["--levels=17", "--conditional", "--batch-size=120", "--sample-every=0", "--seed=7"]
    out = tmp_path / "two"
    run_ranks(2, ["train", PP["model"], *flags, *common, "--lr=0.01", "--max-steps=3", f"--out={out}"])
    two = open_run(out).checkpoint.tensors["history.losses"].numpy()
    np.testing.assert_allclose(two, alone.history.losses, rtol=1e-5)


def test_every_model_is_tried() -> None:
    kinds = {name for name, kind in MODELS.items() if issubclass(kind, AutoregressiveModel)}
    assert SMALL.keys() == kinds


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_trains_samples_and_is_measured(
    name: str, conditional: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = tmp_path / "run", [f"--{key}={value}" for key, value in SMALL[name].items()]
    train = ["train", name, *flags, "--max-steps=3", "--batch-size=100", "--samples=4", f"--out={run}"]
    assert cli.main([*train, *(["--conditional"] if conditional else [])]) == 0
    assert len(open_run(run).checkpoint.tensors["history.losses"]) == 3
    assert len(list((run / "samples").glob("*.png"))) == 1
    grid = tmp_path / "grid.png"
    for method in ("incremental", "naive"):
        command = ["sample", str(run), "-n", "4", "--method", method, f"--out={grid}"]
        assert cli.main([*command, *(["--label=3"] if conditional else [])]) == 0
    capsys.readouterr()
    assert cli.main(["eval", str(run)]) == 0
    assert "bits/dim" in capsys.readouterr().out


def test_other_models_are_drawn_by_the_seed_alone(tmp_path: Path) -> None:
    """The batch changes nothing where there is nothing to initialise."""
    trainer = start(tmp_path / "run")
    torch.manual_seed(config().seed)
    fresh = MODELS["gated-pixelcnn"](**trainer.model.config)
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in weights(trainer).items())
