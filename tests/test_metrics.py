"""Metrics of samples against closed forms, brute force and their own definitions."""

from __future__ import annotations

import math
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genfast.data import load
from genfast.metrics import (
    frechet_distance,
    inception_features,
    mode_counts,
    precision_recall,
    train_feature_classifier,
    wasserstein_1d_samples,
)


def test_the_frechet_distance_is_the_formula() -> None:
    """Against scipy's square root of the product of both covariances, which is not symmetric."""
    from scipy.linalg import sqrtm

    torch.manual_seed(0)
    x = torch.randn(300, 5).double() @ torch.randn(5, 5).double()
    y = torch.randn(200, 5).double() @ torch.randn(5, 5).double() + 0.5
    a, b = x.numpy(), y.numpy()
    covariances = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_few_samples_is_finite() -> None:
    """Singular covariances: fewer samples than features."""
    torch.manual_seed(0)
    x = torch.randn(4, 20)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, 2 * x) > 0
    one = torch.randn(50, 1, dtype=torch.float64)
    scaled = frechet_distance(one, 3 * one)
    expected = (2 * one.mean()) ** 2 + (2 * one.std()) ** 2
    assert scaled == pytest.approx(expected.item(), rel=1e-9)


def test_precision_and_recall_are_their_definition() -> None:
    torch.manual_seed(0)
    real, fake, k = torch.randn(60, 3).double(), 0.7 * torch.randn(50, 3).double() + 0.8, 4

    def share(known: Tensor, asked: Tensor) -> float:
        radii = [sorted((known - x).norm(dim=1).tolist())[k] for x in known]
        near = [any((known - y).norm(dim=1).numpy() <= np.array(radii)) for y in asked]
        return sum(near) / len(near)

    found = precision_recall(real, fake, k)
    assert found == pytest.approx((share(real, fake), share(fake, real)))
    assert 0.2 < found[1] < found[0] < 1


def test_lost_modes_cost_recall_and_noise_costs_precision() -> None:
    torch.manual_seed(0)
    real = torch.randn(500, 2)
    half = real[real[:, 0] > 0]
    precision, recall = precision_recall(real, half + 0.01 * torch.randn_like(half))
    assert precision > 0.9
    assert recall < 0.7
    precision, recall = precision_recall(real, 10 * torch.randn(500, 2))
    assert precision < 0.3


def test_w1_of_samples() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000)
    assert wasserstein_1d_samples(x, (x + 3)[torch.randperm(1000)]) == pytest.approx(3, rel=1e-6)
    from scipy.stats import wasserstein_distance

    y = 2 * torch.randn(1000)
    expected = wasserstein_distance(x.numpy(), y.numpy())
    assert wasserstein_1d_samples(x, y) == pytest.approx(expected, rel=1e-6)


def test_modes_are_counted() -> None:
    grid = torch.cartesian_prod(torch.arange(-2.0, 3), torch.arange(-2.0, 3))
    torch.manual_seed(0)
    samples = grid.repeat(400, 1) + 0.05 * torch.randn(10_000, 2)
    found = mode_counts(samples, grid, 0.05)
    # Within four deviations of a plane Gaussian: 1 - exp(-8).
    assert found.high_quality == pytest.approx(1 - math.exp(-8), abs=5e-4)
    assert found.covered == 25
    assert found.deviation == pytest.approx(0.05, rel=0.02)
    missing = mode_counts(samples[(samples[:, 0] < 1.5)], grid, 0.05)
    assert missing.covered == 20
    between = mode_counts(grid[:4] + 0.5, grid, 0.05)
    assert (between.covered, between.high_quality) == (0, 0.0)
    assert math.isnan(between.deviation)


def test_the_classifier_learns_and_its_features_tell_real_from_noise() -> None:
    digits = load("digits")
    x, y = (split.images.float() / 16 for split in (digits.train, digits.test))
    assert digits.train.labels is not None
    assert digits.test.labels is not None
    state = torch.get_rng_state()
    model = train_feature_classifier(x, digits.train.labels, epochs=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    with torch.no_grad():
        right = model(y).argmax(1) == digits.test.labels
        assert right.float().mean() > 0.9
        real, held, noise = (model.features(images) for images in (x[:299], y, torch.rand_like(y)))
    assert frechet_distance(real, held) < frechet_distance(real, noise) / 10
    assert precision_recall(real, held)[0] > 0.8
    assert precision_recall(real, noise)[0] < precision_recall(real, held)[0] / 2
    again = train_feature_classifier(x, digits.train.labels, epochs=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


# -- weights from a file ---------------------------------------------------------------------------


class Network(nn.Module):
    """Stands in for torchvision's: it has a last layer `fc` to be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.fc = nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (3, 299, 299)
        result: Tensor = self.fc(self.first(x.mean((2, 3))))
        return result


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    models = types.ModuleType("torchvision.models")
    models.inception_v3 = lambda weights, init_weights: Network()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_features_come_from_the_weights_in_a_file(
    tmp_path: Path, suffix: str, torchvision: None
) -> None:
    from safetensors.torch import save_file

    network, path = Network(), tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), path)
    x = torch.rand(4, 1, 8, 8)
    grey = x.mean((1, 2, 3))[:, None]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = network.first((grey - mean) / deviation)
    torch.testing.assert_close(inception_features(path)(x), expected.detach(), rtol=0, atol=0.1)
    other = tmp_path / f"other.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(nn.Linear(2, 2).state_dict(), other)
    with pytest.raises(ValueError, match="not the weights of torchvision's inception_v3"):
        inception_features(other)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def test_no_code_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="not a state_dict of tensors alone"):
        inception_features(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="must be a state_dict"):
        inception_features(path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a safetensors file"):
        inception_features(path)
    with pytest.raises(OSError, match="none"):
        inception_features(tmp_path / "none.pt")


def test_bad_input_is_named() -> None:
    x = torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"real and fake must be \(N, D\) and \(M, D\)"):
        frechet_distance(x, x[:, :2])
    with pytest.raises(ValueError, match="at least 4 samples"):
        precision_recall(x, x[:3])
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        precision_recall(x, x, 0)
    with pytest.raises(ValueError, match=r"samples and modes must be \(N, D\)"):
        mode_counts(x, x[:, :2], 1.0)
    with pytest.raises(ValueError, match=r"x and y must be \(N,\) alike"):
        wasserstein_1d_samples(x[:, 0], x[:3, 0])
    with pytest.raises(ValueError, match=r"images and labels must be \(N, C, H, W\) and \(N,\)"):
        train_feature_classifier(torch.rand(3, 1, 8, 8), torch.arange(2))
