"""The configuration of a run: checks by name, TOML files, flags, and the settings of models."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import pytest
from training_runs import start
from training_tables import PAGE, generated

from genfast import cli
from genfast.models import MODELS
from genfast.training import ConfigError, TrainConfig, Trainer, open_run, read_config
from genfast.training.config import run_settings
from genfast.training.config_files import write_config
from genfast.training.settings import declare, model_settings

RECIPES = Path(__file__).parents[1] / "recipes"
FROM_DATA = {"self", "image_shape", "levels", "num_classes", "condition_channels", "input_channels"}


def test_every_setting_is_documented() -> None:
    assert all(len(setting.metadata["help"]) > 10 for setting in fields(TrainConfig))
    for model in MODELS.values():
        assert all(len(setting.help) > 10 for setting in model_settings(model).values())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_states_all_of_its_settings(name: str) -> None:
    parameters = inspect.signature(MODELS[name].__init__).parameters
    own = model_settings(MODELS[name])
    assert set(own) == set(parameters) - FROM_DATA
    # One flag, one meaning.
    assert not set(own) & {*run_settings(), "model", "name", "out", "resume", "config"}


def test_the_page_has_the_tables_of_today() -> None:
    assert PAGE.read_text() == generated(PAGE.read_text()), "run: python tests/training_tables.py"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "lr: must be greater than 0, got 0"),
        ({"lr": math.nan}, "lr: must be finite"),
        ({"lr": "1"}, "lr: must be float, got '1'"),
        ({"epochs": 1.5}, r"epochs: must be int, got 1\.5"),
        ({"epochs": True}, "epochs: must be int, got True"),
        ({"conditional": 1}, "conditional: must be bool, got 1"),
        ({"levels": 1}, "levels: must be 2 or more and 256 or less, got 1"),
        ({"max_minutes": -1}, "max_minutes: must be greater than 0"),
        ({"max_steps": "many"}, "max_steps: must be int or None"),
        ({"sample_every": -1}, "sample_every: must be 0 or more"),
        ({"seed": -1}, "seed: must be 0 or more"),
        ({"ema": 1.0}, "ema: must be 0 or more and less than 1"),
        ({"device": "tpu"}, "device: must be one of auto, cpu, cuda, got 'tpu'"),
        ({"precision": None}, "precision: must be one of fp32, bf16, got None"),
        ({"schedule": "step"}, "schedule: must be one of constant, cosine"),
        ({"batchsize": 3}, r"batchsize: unknown setting; did you mean batch_size\?"),
        ({"zzz": 3}, "zzz: unknown setting; known are accumulate, alpha"),
        ({"model": "gated-pixelcnn"}, "model: must be a table with a name"),
        ({"model": {"layers": 3}}, "model: must be a table with a name"),
        ({"model": {"name": 3}}, r"model\.name: must be str, got 3"),
        ({"model": {"name": "pixelcnm"}}, r"model: unknown 'pixelcnm'; did you mean"),
        (
            {"model": {"name": "gated-pixelcnn", "layer": 3}},
            r"model\.layer: unknown setting of gated-pixelcnn; did you mean layers\?",
        ),
        (
            {"model": {"name": "gated-pixelcnn", "layers": "3"}},
            r"model\.layers: must be int, got '3'",
        ),
        ({"alpha": 0.9}, "alpha: the optimizer adam has no such setting"),
        ({"optimizer": "sgd", "beta1": 0.9}, "beta1: the optimizer sgd has no such setting"),
    ],
)
def test_settings_are_checked_by_name(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        TrainConfig.from_dict(settings)
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items()]
    path = tmp_path / "a.toml"
    path.write_text("\n".join(lines))
    if None not in settings.values():  # which TOML cannot say
        with pytest.raises(ConfigError, match=f"^{path}: {message}"):
            read_config(path)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_a_setting_of_a_model_may_be_a_choice_or_left_out() -> None:
    choice = declare("variant", Literal["row", "diagonal"], "row", "which one")
    assert (choice.choices, choice.kind, choice.optional) == (("row", "diagonal"), str, False)
    assert declare("width", int | None, None, "how wide").optional
    with pytest.raises(TypeError, match="shape: a setting cannot be of type"):
        declare("shape", tuple[int, int], (1, 2), "of images")
    with pytest.raises(TypeError, match="width: the default of a setting that may be None"):
        declare("width", int | None, 3, "how wide")


def test_only_what_cannot_alter_the_past_may_change_on_resuming() -> None:
    config = TrainConfig()
    assert config.continued({"epochs": 3, "lr": config.lr}).epochs == 3
    same = {"model": {"name": config.model, "layers": 8}}
    assert config.continued(same) == config
    for changes, message in (
        ({"lr": 0.1}, r"lr: .* it has 0\.001, got 0\.1"),
        ({"model": {"layers": 3}}, r"model\.layers: .* it has 8, got 3"),
        ({"model": {"name": "other"}}, r"model: .* it has 'gated-pixelcnn', got 'other'"),
        ({"epoch": 3}, r"epoch: unknown setting; did you mean epochs\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.continued(changes)
    laid_out = TrainConfig(schedule="cosine")
    assert laid_out.continued({"max_steps": 3}).max_steps == 3
    with pytest.raises(ConfigError, match="epochs: the cosine schedule was laid out for 20, got 21"):
        laid_out.continued({"epochs": 21})


# -- files -----------------------------------------------------------------------------------------


def test_settings_survive_their_file(tmp_path: Path) -> None:
    config = TrainConfig(
        lr=1e-5,
        optimizer="adamw",
        beta2=0.9995,
        seed=2**62,
        data='a "b" \\ é',
        max_steps=3,
        model_settings={"layers": 3},
    )
    path = tmp_path / "config.toml"
    write_config(path, config)
    assert TrainConfig.from_dict(read_config(path)) == config
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert "max_minutes" not in path.read_text()  # None is what is left out


@pytest.mark.parametrize(
    "content", [b"lr = ", b"\xff\xfe", b"[model]\nname = 'a'\n[model]", b"a = " + b"[" * 100_000]
)
def test_what_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        read_config(path)


def test_a_run_saves_a_file_that_makes_it_again(tmp_path: Path) -> None:
    first = start(tmp_path / "a", max_steps=2, ema=0.5)
    first.run()
    settings = TrainConfig.from_dict(read_config(tmp_path / "a/config.toml"))
    assert settings == first.config
    again = Trainer.start(settings, tmp_path / "b", quiet=True)
    again.run()
    assert again.history.losses == first.history.losses


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_right(path: Path) -> None:
    assert TrainConfig.from_dict(read_config(path)).data


# -- the command line ------------------------------------------------------------------------------

SMALL = """
levels = 2
conditional = true
batch_size = 120
max_steps = 1
epochs = 5
sample_every = 0
lr = 0.5
[model]
name = "gated-pixelcnn"
channels = 4
layers = 2
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.mark.parametrize("named", [["gated-pixelcnn"], []])
def test_a_flag_goes_before_the_file(tmp_path: Path, small: str, named: list[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    flags = ["--lr", "0.25", "--layers", "3", "--no-conditional", "--max-steps", "none"]
    flags += ["--epochs", "1"]
    assert cli.main(["train", *named, "--config", small, *flags, *out]) == 0
    config = open_run(tmp_path / "run").config
    assert (config.lr, config.epochs, config.levels, config.batch_size) == (0.25, 1, 2, 120)
    assert (config.conditional, config.max_steps) == (False, None)
    assert (config.model_settings["channels"], config.model_settings["layers"]) == (4, 3)


def test_a_run_is_resumed_without_naming_its_model(tmp_path: Path, small: str) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["train", "--config", small, *out]) == 0
    assert cli.main(["train", *out, "--resume", "--max-steps", "2"]) == 0
    assert cli.main(["train", "--config", small, *out, "--resume", "--max-steps", "3"]) == 0
    assert len(open_run(tmp_path / "run").checkpoint.tensors["history.losses"]) == 3


def test_help_shows_the_settings_of_the_model(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "gated-pixelcnn", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "settings of gated-pixelcnn" in words
    assert "--layers N gated blocks" in words
    assert "--precision fp32|bf16" in words
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--help"])
    assert "--layers" not in capsys.readouterr().out
