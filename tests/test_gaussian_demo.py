"""The GAN of one Gaussian on a line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from genfast.training.gaussian_demo import (
    DEVIATION,
    MEAN,
    save_gaussian_demo,
    train_gaussian_demo,
)


def test_a_few_steps_leave_a_picture_and_the_generator_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    demo = train_gaussian_demo(steps=2)
    assert torch.equal(torch.rand(2), expected)
    again = train_gaussian_demo(steps=2)
    assert torch.equal(demo.samples(9), again.samples(9))
    save_gaussian_demo(tmp_path / "demo.png", demo)
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 900


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_reaches_the_mean_and_the_deviation(seed: int) -> None:
    demo = train_gaussian_demo(seed=seed)
    samples = demo.samples(10_000)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert samples.std().item() == pytest.approx(DEVIATION, abs=0.15)
    with torch.no_grad():  # where most samples are, D cannot tell
        inner = torch.linspace(MEAN - 1, MEAN + 1, 50).unsqueeze(1)
        assert (demo.discriminator(inner).sigmoid() - 0.5).abs().max() < 0.15
