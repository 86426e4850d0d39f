"""History and pictures of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.training import (
    image_grid,
    save_png,
)
from genfast.training.history import History


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
