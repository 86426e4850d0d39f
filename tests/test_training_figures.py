"""Settings, history and pictures of a run."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.training import (
    ConfigError,
    TrainConfig,
    image_grid,
    save_png,
)
from genfast.training.history import History

# -- settings --------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    assert all(len(setting.metadata["help"]) > 10 for setting in fields(TrainConfig))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "lr: must be greater than 0, got 0"),
        ({"lr": math.nan}, "lr: must be finite"),
        ({"lr": "1"}, "lr: must be float, got '1'"),
        ({"epochs": 1.5}, "epochs: must be int, got 1.5"),
        ({"epochs": True}, "epochs: must be int, got True"),
        ({"conditional": 1}, "conditional: must be bool, got 1"),
        ({"levels": 1}, "levels: must be from 2 to 256, got 1"),
        ({"max_minutes": -1}, "max_minutes: must be greater than 0"),
        ({"max_steps": "many"}, "max_steps: must be int or None"),
        ({"sample_every": -1}, "sample_every: must be 0 or more"),
        ({"seed": -1}, "seed: must be from 0"),
        ({"batchsize": 3}, "batchsize: unknown setting; known are batch_size"),
    ],
)
def test_settings_are_checked_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        TrainConfig.from_dict(settings)


def test_only_what_cannot_alter_the_past_may_change_on_resuming() -> None:
    config = TrainConfig()
    assert config.continued({"epochs": 3, "lr": config.lr}).epochs == 3
    with pytest.raises(ConfigError, match=r"lr: .* it has 0\.001, got 0\.1"):
        config.continued({"lr": 0.1})


# -- history and pictures --------------------------------------------------------------------------


def test_history_survives_its_tensors() -> None:
    history = History([0.1, 1 / 3], [0.5, 0.75], {2: 1 / 7})
    assert History.from_tensors(history.to_tensors()) == history
    assert History.from_tensors(History().to_tensors()) == History()
    with pytest.raises(ValueError, match="different length"):
        History.from_tensors({**history.to_tensors(), "seconds": torch.zeros(1)})


def test_grid_puts_each_image_in_its_place(tmp_path: Path) -> None:
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 48, 60)
    save_png(tmp_path / "grid.png", image_grid(images, levels=5, columns=3))
    with Image.open(tmp_path / "grid.png") as picture:
        array = np.asarray(picture)
    assert array.shape == (2 * 49 + 1, 3 * 61 + 1)
    for number, value in enumerate((0, 64, 128, 191, 255)):
        row, column = divmod(number, 3)
        cell = array[row * 49 + 1 : row * 49 + 49, column * 61 + 1 : column * 61 + 61]
        assert (cell == value).all()


def test_grid_of_colours_is_enlarged_in_whole_pixels() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.int64)
    images[0, 0, 2, 3] = 1
    array = np.asarray(image_grid(images, levels=2))
    assert array.shape == (60, 60, 3)
    red = (array == [255, 0, 0]).all(-1)
    assert red[18:24, 24:30].all()
    assert red.sum() == 36


def test_grid_refuses_what_is_not_images() -> None:
    with pytest.raises(ValueError, match=r"images must be .*got \(2, 8, 8\)"):
        image_grid(torch.zeros(2, 8, 8), levels=2)
