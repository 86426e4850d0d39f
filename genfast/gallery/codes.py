"""Exhibits of codes that mean something: codes that follow a prior, and directions to move them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genfast.gallery.digits import COLUMNS, draw, train
from genfast.gallery.exhibit import PICTURE, Exhibit, Finding
from genfast.models.adversarial import LatentDirections
from genfast.training.directions import save_traversals, train_directions
from genfast.training.images import to_unit

_ROUNDS = 500


def _energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Szekely's energy statistic of two samples: 0 in expectation only for equal laws."""
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()


def _p_value(x: Tensor, y: Tensor) -> float:
    """That two samples are of one law: by permutation of their energy distance."""
    generator = torch.Generator().manual_seed(0)
    both, found = torch.cat([x, y]), _energy_distance(x, y)
    larger = 0
    for _ in range(_ROUNDS):
        order = both[torch.randperm(len(both), generator=generator)]
        larger += int(_energy_distance(order[: len(x)], order[len(x) :]) >= found)
    return (larger + 1) / (_ROUNDS + 1)


def _adversarial_autoencoder(folder: Path) -> Finding:
    dim = 4
    model_settings = {
        "name": "adversarial-autoencoder",
        **{"width": 128, "latent_dim": dim, "prior_deviation": 1.0},
    }
    run_settings = {"epochs": 100, "max_minutes": 1.2, "batch_size": 100, "lr": 1e-3, "beta1": 0.5}
    trainer = train(folder, {"model": model_settings, "schedule": "late-linear", **run_settings})
    model = trainer.evaluated.eval()
    x = to_unit(trainer.data.test.images, trainer.data.levels)
    with torch.no_grad():
        codes, back = model.encode(x), model.reconstruct(x)
    prior = torch.randn(len(x), dim, generator=torch.Generator().manual_seed(1))
    p = _p_value(codes, prior)
    error, blank = ((y - x).square().flatten(1).sum(1).mean().item() for y in (back, x.mean(0)))
    draw(folder, x[:COLUMNS], back[:COLUMNS], model.sample(2 * COLUMNS, seed=1))
    return Finding(
        figure=f"two-sample test of codes against the prior: p = {p:.2f}; squared error {error:.2f} "
        f"(of the mean image {blank:.2f})",
        check="a permutation test at 1 % does not tell the codes of test images from draws of the "
        "prior; reconstructions have less than half the error of the mean image",
        passed=p > 0.01 and error < blank / 2,
        caption="Real test digits; reconstructions; two rows of samples.",
    )


def _directions(folder: Path) -> Finding:
    alive_dim, dim, k = 4, 16, 4
    settings = {
        "model": {"name": "gan", "hidden": 256, "latent_dim": alive_dim},
        **{"epochs": 200, "max_minutes": 0.8, "lr": 2e-4, "beta1": 0.5, "ema": 0.99},
    }
    gan = train(folder, settings).evaluated.eval()
    alive = torch.linalg.qr(torch.randn(dim, alive_dim, generator=torch.Generator().manual_seed(9))).Q
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        fixed = [
            LatentDirections(lambda z: gan.generator(z @ alive), dim, k, "unit", width=1).alive_energy(
                alive
            )
            for _ in range(50)
        ]
        model = LatentDirections(
            lambda z: gan.generator(z @ alive), dim, k, "unit", width=1, max_shift=3.0
        )
    train_directions(model, steps=600, lr=1e-3, directions_lr=1e-2)
    energy, chance, accuracy = model.alive_energy(alive), sum(fixed) / len(fixed), model.accuracy(20)
    save_traversals(folder / PICTURE, model)
    return Finding(
        figure=f"energy of the directions in the subspace that shows: {energy:.2f}, of random ones "
        f"{chance:.2f}; recognised {accuracy:.0%}",
        check=f"of {dim} dimensions of the noise, {dim - alive_dim} do nothing: the directions found "
        "have at least half their energy in the others, and twice that of random ones (being "
        "recognised alone certifies nothing)",
        passed=energy >= 0.5 and energy >= 2 * chance,
        caption="A row for each direction that was found: one generated digit, moved along it.",
    )


ADVERSARIAL_AUTOENCODER = Exhibit(
    "adversarial-autoencoder",
    "Adversarial autoencoder",
    "Makhzani et al. 2016",
    _adversarial_autoencoder,
)
DIRECTIONS = Exhibit(
    "latent-directions", "Interpretable latent directions", "Voynov, Babenko 2020", _directions
)
