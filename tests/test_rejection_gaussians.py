"""25 Gaussians: what points are worth, and that rejection by the discriminator makes them better."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genfast.gallery.gaussians import centres, draw_points, quality, train
from genfast.gallery.rejection import STEPS, compare, draw


def test_the_mixture_itself() -> None:
    points = draw_points(50_000, torch.Generator().manual_seed(0))
    found = quality(points)
    assert found.modes == 25
    assert abs(found.high - 0.99966) < 0.0005  # 1 - e^-8: within 4 standard deviations in two dimensions
    assert abs(found.spread - 0.05) < 0.0005


def test_points_anywhere_are_worth_little() -> None:
    uniform = 5 * torch.rand(50_000, 2, generator=torch.Generator().manual_seed(0)) - 2.5
    assert abs(quality(uniform).high - 0.1257) < 0.005  # 25 circles of radius 0.2 in a square of 25
    one = quality(centres()[:1].expand(10, 2))
    assert (one.high, one.modes, one.spread) == (1, 1, 0)
    assert quality(torch.full((3, 2), 0.5)).modes == 0


def test_training_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    steps: list[int] = []
    model = train(3, batch_size=8, further=1, progress=steps.append)
    assert steps == [1, 1, 1]
    assert torch.equal(torch.get_rng_state(), before)
    again = train(3, batch_size=8, further=1)
    for one, other in zip(model.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_picture(tmp_path: Path) -> None:
    comparison = compare(train(3, batch_size=8, further=1), 100)
    assert len(comparison.plain) == len(comparison.accepted) == 100
    draw(tmp_path / "picture.png", comparison)
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.slow
def test_rejection_gives_better_points_and_keeps_the_modes() -> None:
    """At least 3 points more of high quality; the 1st percentile (published: the 0.8-th) little."""
    model = train(STEPS)
    meant, published = compare(model, 10_000), compare(model, 10_000, percentile=1.0)
    assert meant.passed, meant.qualities
    before, after = published.qualities
    assert published.acceptance > 0.8
    assert after.high - before.high < (meant.qualities[1].high - before.high) / 2
