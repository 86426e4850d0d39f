"""Settings, exact means of the figures, history and pictures of a run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.data import Split, load
from genfast.training import (
    Trainer,
    evaluate,
    image_grid,
    independent_pixels,
    save_png,
)
from genfast.training.evaluate import summarise
from genfast.training.history import History

# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 100, 299, 1000])
def test_mean_and_error_are_exact_for_any_batches(size: int) -> None:
    values = torch.randn(299, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1e6
    result = summarise(values.split(size), dims=64)
    assert result.count == 299
    scale = 64 * math.log(2)
    exact = math.fsum((-values).tolist()) / 299 / scale
    assert result.bits_per_dim == pytest.approx(exact, rel=1e-14)
    assert result.standard_error == pytest.approx(values.std().item() / math.sqrt(299) / scale, rel=1e-9)
    assert result.nats == pytest.approx(exact * scale, rel=1e-14)


def test_one_image_has_no_error_and_none_has_no_mean() -> None:
    assert math.isnan(summarise([torch.zeros(1)], 4).standard_error)
    with pytest.raises(ValueError, match="no images"):
        summarise([torch.zeros(0)], 4)


def test_evaluate_uses_every_image_with_its_label(whole: Trainer) -> None:
    split = whole.data.test
    with torch.no_grad():
        each = whole.model.log_prob(split.images.long(), split.labels).double()
    whole.model.train()
    for size in (64, 299):
        result = evaluate(whole.model, split, labels=True, batch_size=size)
        assert result.nats == pytest.approx(-each.mean().item(), rel=1e-5)
    assert whole.model.training  # left as it was found


def test_independent_pixels_by_hand() -> None:
    images = torch.tensor([[0, 1], [0, 1], [2, 1], [0, 0]], dtype=torch.uint8).view(4, 1, 1, 2)
    train = Split(images[:3], torch.tensor([0, 0, 1]))
    test = Split(images[3:], torch.tensor([1]))
    # Pixel 0: counts 2+1, 0+1, 1+1 of 6; pixel 1: 0+1, 3+1, 0+1 of 6.
    expected = -(math.log2(3 / 6) + math.log2(1 / 6)) / 2
    assert independent_pixels(train, test, 3).bits_per_dim == pytest.approx(expected)
    # Class 1 has one training image, (2, 1).
    expected = -(math.log2(1 / 4) + math.log2(1 / 4)) / 2
    result = independent_pixels(train, test, 3, num_classes=2)
    assert result.bits_per_dim == pytest.approx(expected)


def test_independent_pixels_do_not_depend_on_the_batches() -> None:
    data = load("digits", levels=5)
    counts = np.ones((64, 5))
    for image in data.train.images.flatten(1).numpy():
        counts[np.arange(64), image] += 1
    log_probs = np.log2(counts / counts.sum(1, keepdims=True))
    test = data.test.images.flatten(1).numpy()
    expected = -log_probs[np.arange(64), test].mean()
    result = independent_pixels(data.train, data.test, 5)
    assert result.bits_per_dim == pytest.approx(expected, rel=1e-12)


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
