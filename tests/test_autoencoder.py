"""The autoencoder: its linear case is principal component analysis."""

from __future__ import annotations

import math

import pytest
import torch
from training_runs import start

from genfast.models import Autoencoder


def test_the_linear_case_spans_the_principal_subspace() -> None:
    """Largest principal angle < 1e-3, loss within 1e-5 of the optimum; codes may be correlated."""
    torch.manual_seed(0)
    scales = torch.linspace(2.0, 0.5, 20, dtype=torch.float64)
    mixing = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64)).Q
    x = (torch.randn(2000, 20, dtype=torch.float64) * scales) @ mixing + 0.7
    images = x.view(2000, 1, 4, 5)
    model = Autoencoder((1, 4, 5), latent_dim=4, layers=0).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=400, tolerance_grad=1e-10, tolerance_change=1e-14, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = model.loss(images)
        loss.backward()
        return loss

    optimiser.step(closure)
    centred = x - x.mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    optimum = singular[4:].square().sum() / 2000
    loss = model.loss(images).item()
    assert -1e-9 < loss - optimum.item() < 1e-5
    learned = torch.linalg.qr(model.decoder[0].weight.detach()).Q
    cosines = torch.linalg.svdvals(learned.T @ directions[:4].T)
    sines = torch.linalg.svdvals(learned - directions[:4].T @ (directions[:4] @ learned))
    assert cosines.min() > 0.999
    assert math.asin(sines.max().item()) < 1e-3
    codes = model.encode(images).detach()
    correlations = torch.corrcoef(codes.T) - torch.eye(4)
    assert correlations.abs().max() > 0.01  # PCA's are uncorrelated; these need not be


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (1, 1, 1)])
def test_shapes(network: str, shape: tuple[int, int, int]) -> None:
    model = Autoencoder(shape, latent_dim=3, network=network, hidden=8, channels=5)
    x = torch.rand(4, *shape)
    assert model.encode(x).shape == (4, 3)
    assert model.reconstruct(x).shape == x.shape
    error = (model.reconstruct(x) - x).square().sum((1, 2, 3))
    torch.testing.assert_close(model.loss(x), error.mean())
    torch.testing.assert_close(-model.validation_score(x), error)
    assert model.loss(x[:0]).isnan()  # the mean of no images


def test_errors() -> None:
    with pytest.raises(ValueError, match="latent_dim must be at least 1, got 0"):
        Autoencoder((1, 8, 8), latent_dim=0)
    with pytest.raises(ValueError, match="network must be 'dense' or 'conv', got 'mlp'"):
        Autoencoder((1, 8, 8), network="mlp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\)"):
        Autoencoder((8, 8))  # type: ignore[arg-type]
    model = Autoencoder((1, 8, 8))
    with pytest.raises(TypeError, match=r"x must hold floats in \[0, 1\], got torch.int64"):
        model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x must have shape \(N, \*\(1, 8, 8\)\), got \(2, 1, 8, 7\)"):
        model.encode(torch.zeros(2, 1, 8, 7))


def test_training_draws_reconstructions(tmp_path: object) -> None:
    trainer = start(
        tmp_path / "run", model="autoencoder", conditional=False, epochs=1, sample_every=1, samples=5,
        levels=None, model_settings={"hidden": 16, "latent_dim": 4},
    )  # fmt: skip
    assert trainer.run()
    assert (trainer.run_dir / "samples/step-00000010.png").exists()
    assert trainer.history.losses[-1] < trainer.history.losses[0]
