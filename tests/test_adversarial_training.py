"""Training of several players: turns, exact resumption, processes, precision, what is logged."""

from __future__ import annotations

import csv
import json
import math
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adversarial_runs import CONDITIONAL, DOMAINS, SMALL, start
from training_runs import assert_same_run, weights

from genfast import cli
from genfast.models import MODELS
from genfast.models.adversarial import AdversarialModel
from genfast.training import ConfigError, TrainConfig, Trainer, TrainingError, open_run
from genfast.training.adversarial import held_out
from genfast.training.history import COLUMNS

each = pytest.mark.parametrize("name", SMALL)


def test_every_adversarial_model_is_tried() -> None:
    kinds = {name for name, kind in MODELS.items() if issubclass(kind, AdversarialModel)}
    assert SMALL.keys() == kinds


@each
def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path, name: str) -> None:
    """The optimisers of all players, running statistics and the average of the weights among it."""
    whole = start(tmp_path / "whole", name, ema=0.9)
    assert whole.run()
    assert whole.step == 2 * whole.steps_per_epoch
    start(tmp_path / "parts", name, ema=0.9, max_steps=7).run()
    resumed = Trainer.resume(tmp_path / "parts", quiet=True, max_steps=20)
    assert resumed.run()
    assert_same_run(whole, resumed)
    for player, losses in whole.history.players.items():
        np.testing.assert_array_equal(losses, resumed.history.players[player])
    for step, loss in whole.history.validation.items():
        assert resumed.history.validation[step] == loss


def test_turns_hold_across_a_stop(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"name": "gan", "model": {"discriminator_steps": 3}}
    whole = start(tmp_path / "whole", **settings)
    assert whole.run()
    moved = [not math.isnan(loss) for loss in whole.history.players["generator"]]
    assert moved == [step % 3 == 2 for step in range(20)]
    assert not any(map(math.isnan, whole.history.players["discriminator"]))
    assert whole.history.losses == whole.history.players["discriminator"]
    start(tmp_path / "parts", **settings, max_steps=13).run()
    resumed = Trainer.resume(tmp_path / "parts", quiet=True, max_steps=20)
    assert resumed.run()
    assert_same_run(whole, resumed)


def test_only_players_that_are_due_move(tmp_path: Path) -> None:
    trainer = start(tmp_path, model={"discriminator_steps": 2}, max_steps=1)
    before = weights(trainer)
    trainer.run()
    after = weights(trainer)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"discriminator"}


def test_the_recorded_losses_are_the_models_own(tmp_path: Path) -> None:
    """Of the first step; with plain gradient descent of rate ~0 nobody moves."""
    trainer = start(tmp_path, optimizer="sgd", lr=1e-20, max_steps=1)
    (part,) = trainer.batches.parts(0)
    trainer.run()
    torch.manual_seed(part.seed)
    expected = trainer.model.discriminator_loss(part.images.float() / 16)
    assert trainer.history.losses[0] == pytest.approx(expected.item(), rel=1e-6)
    assert trainer.history.players["generator"][0] == pytest.approx(math.log(2), abs=0.2)


# Models that draw noise in the networks themselves are left out: compiled code draws other numbers.
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # torch's own, hidden but for "error"
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("gan", "aot_eager"),  # everything but the generated code, in seconds
        *(pytest.param(name, "inductor", marks=pytest.mark.slow) for name in ("dcgan", "cyclegan")),
    ],
)
def test_compiled_players_take_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    compiling = partialmethod(torch.nn.Module.compile, backend=backend)
    monkeypatch.setattr(torch.nn.Module, "compile", compiling)
    plain = start(tmp_path / "plain", name, max_steps=4)
    compiled = start(tmp_path / "compiled", name, max_steps=2, compile=True)
    assert plain.run()
    assert compiled.run()
    resumed = Trainer.resume(tmp_path / "compiled", quiet=True, max_steps=4)
    assert resumed.run()
    for player, losses in plain.history.players.items():
        np.testing.assert_allclose(resumed.history.players[player], losses, rtol=1e-4)
    before = {key: tensor.shape for key, tensor in weights(plain).items()}
    assert {key: tensor.shape for key, tensor in weights(resumed).items()} == before


@each
def test_bf16_follows_fp32(tmp_path: Path, name: str) -> None:
    plain, half = (
        start(tmp_path / kind, name, max_steps=4, precision=kind) for kind in ("fp32", "bf16")
    )
    assert plain.run()
    assert half.run()
    assert plain.history.losses != half.history.losses
    np.testing.assert_allclose(half.history.losses, plain.history.losses, rtol=0.02, atol=0.02)
    assert {t.dtype for t in weights(half).values() if t.is_floating_point()} == {torch.float32}


def test_the_game_goes_on(tmp_path: Path) -> None:
    """The discriminator learns to tell real images from the first noise, and so do samples change."""
    trainer = start(tmp_path, epochs=6, lr=2e-3)
    first = trainer.model.sample(4)
    assert trainer.run()
    assert trainer.history.losses[0] == pytest.approx(2 * math.log(2), abs=0.2)
    assert np.mean(trainer.history.losses[10:20]) < trainer.history.losses[0] - 0.1
    assert not torch.allclose(first, trainer.model.sample(4), atol=0.05)
    moments = held_out(trainer.model, trainer.data.validation, batch_size=120)
    assert moments.count == len(trainer.data.validation)
    assert moments.mean == pytest.approx(trainer.history.validation[60], abs=0.1)  # other noise


def test_every_players_loss_is_logged(tmp_path: Path) -> None:
    trainer = start(tmp_path, model={"discriminator_steps": 2}, log_every=4, epochs=1, tensorboard=True)
    assert trainer.run()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*COLUMNS, "discriminator_loss", "generator_loss")
    generator = trainer.history.players["generator"]
    assert float(rows[0]["generator_loss"]) == pytest.approx((generator[1] + generator[3]) / 2)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/generator")] == [4, 8]
    assert events.Scalars("loss/discriminator")[1].value == pytest.approx(trainer.history.losses[7])


def test_a_loss_that_is_not_a_number_names_the_player(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    weight = next(trainer.model.generator.parameters())
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"norm of the generator's gradient became \w+ at step 1"):
        trainer.run()
    assert Trainer.resume(tmp_path, quiet=True).step == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "wgan", "compile": True},
            "compile: must be off for constraint 'penalty': torch.compile has no second derivatives",
        ),
        ({"early_stopping": 2}, "early_stopping: must be 0 for gan"),
        ({"conditional": True}, "conditional: the model gan takes no labels"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        start(tmp_path, **settings)


def test_a_model_brings_the_settings_of_its_paper() -> None:
    of = TrainConfig.from_dict
    published = of({"model": {"name": "dcgan"}})
    assert (published.lr, published.beta1, published.optimizer) == (2e-4, 0.5, "adam")
    assert of({"lr": 0.5, "model": {"name": "dcgan"}}).lr == 0.5
    other = of({"optimizer": "rmsprop", "model": {"name": "dcgan"}})
    assert (other.lr, other.beta1) == (TrainConfig.lr, None)
    assert of(published.to_dict()) == published


@each
def test_a_model_trains_and_samples_from_the_command_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, own = tmp_path / "run", [f"--{k.replace('_', '-')}={v}" for k, v in SMALL[name].items()]
    given = [f"--domains={DOMAINS[name]}"] if name in DOMAINS else []
    train = ["train", name, *own, *given, "--max-steps=3", "--batch-size=100", "--samples=4"]
    assert cli.main([*train, f"--out={run}"]) == 0
    assert cli.main([*train[:2], f"--out={run}", "--resume", "--max-steps=5"]) == 0
    assert len(open_run(run).checkpoint.tensors["history.losses"]) == 5
    assert len(list((run / "samples").glob("*.png"))) == 2
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    assert cli.main(["sample", str(run), "-n", "6", f"--out={first}"]) == 0
    assert cli.main(["sample", str(run), "-n", "6", "--batch-size=4", f"--out={second}"]) == 0
    with np.load(first) as a, np.load(second) as b:
        assert a["images"].shape == (6, 8, 8, 1)
        # a batch of another size may round a level to the other side
        assert np.abs(a["images"].astype(int) - b["images"]).max() <= 16
    capsys.readouterr()
    assert cli.main(["sample", str(run), "--temperature", "0.5", f"--out={first}"]) == 2
    assert "--temperature: must be left out" in capsys.readouterr().err
    assert cli.main(["eval", str(run), "--max-images=40", f"--json={tmp_path / 'figures.json'}"]) == 0
    shown = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert all(name in shown for name in figures)
    assert all(map(math.isfinite, figures.values()))
    if name in DOMAINS:
        assert figures["that of the input"] > 0
    else:
        assert figures["Frechet distance"] > 2 * figures["Frechet distance of training images"]
        assert ("class asked for is class made" in figures) == (name in CONDITIONAL)
    assert cli.main(["eval", str(run), "--importance-samples=2"]) == 2
    assert "has no likelihood" in capsys.readouterr().err
