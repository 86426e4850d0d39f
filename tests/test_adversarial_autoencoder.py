"""Adversarial autoencoder: three phases, both encoders, and codes that follow the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfast.models import AdversarialAutoencoder
from genfast.training import TrainConfig, Trainer

SHAPE = (1, 8, 8)
each = pytest.mark.parametrize("network", ["dense", "convolutional"])
encoders = pytest.mark.parametrize("encoder", ["deterministic", "gaussian"])


def tiny(**changes: Any) -> AdversarialAutoencoder:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"width": 8, "latent_dim": 3, "channels": 4, "prior_deviation": 2.0}
    return AdversarialAutoencoder(SHAPE, levels=17, **settings | changes)


def images(n: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(n, *SHAPE)


@each
@encoders
def test_a_phase_moves_its_own_weights(network: Any, encoder: Any) -> None:
    model, x = tiny(network=network, encoder=encoder), images()
    assert model.turns(0) == ("autoencoder", "discriminator", "generator")
    moved = {
        "autoencoder": {"encoder", "decoder"},
        "discriminator": {"discriminator"},
        "generator": {"encoder"},
    }
    for player, parts in moved.items():
        model.zero_grad(set_to_none=True)
        model.player_loss(player, x).backward(inputs=model.player_weights(player))
        with_gradient = {
            name.split(".")[0] for name, w in model.named_parameters() if w.grad is not None
        }
        assert with_gradient == parts


def test_the_losses_are_the_formulas() -> None:
    model, x = tiny(), images()
    z = model.encode(x)
    error = (model.decode(z) - x).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(model.autoencoder_loss(x), error)
    torch.manual_seed(2)
    loss = model.discriminator_loss(x)
    torch.manual_seed(2)
    real = model.discriminator(2.0 * torch.randn(6, 3)).sigmoid()
    fake = model.discriminator(z).sigmoid()
    torch.testing.assert_close(loss, -(real.log().mean() + (1 - fake).log().mean()))
    torch.testing.assert_close(model.generator_loss(x), -fake.log().mean())


def test_the_dense_networks_are_those_of_the_paper() -> None:
    model = AdversarialAutoencoder((1, 28, 28), levels=256)
    layers = {
        part: [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]
        for part, module in model.named_children()
    }
    assert layers == {
        "encoder": [(784, 1000), (1000, 1000), (1000, 8)],
        "decoder": [(8, 1000), (1000, 1000), (1000, 784)],
        "discriminator": [(8, 1000), (1000, 1000), (1000, 1)],
    }
    assert isinstance(list(model.encoder.modules())[-1], nn.Linear)  # linear at the end
    assert model.prior_deviation == 5.0


@each
def test_codes_are_the_same_in_training_and_alone(network: Any) -> None:
    """What the discriminator compares with the prior is what a user gets."""
    model, x = tiny(network=network), images()
    together = model.train().encode(x)
    torch.testing.assert_close(model.eval().encode(x[2:3]), together[2:3], rtol=1e-4, atol=1e-5)


def test_a_gaussian_encoder_draws_its_codes() -> None:
    model, x = tiny(encoder="gaussian"), images(1).expand(20_000, *SHAPE)
    mean, log_variance = model.code_distribution(x[:1])
    assert log_variance is not None
    z = model.encode(x)
    torch.testing.assert_close(z.mean(0), mean[0], rtol=0, atol=0.05)
    torch.testing.assert_close(z.var(0), log_variance[0].exp(), rtol=0.05, atol=0)
    plain = tiny()
    assert plain.code_distribution(x[:1])[1] is None
    assert torch.equal(plain.encode(x[:2]), plain.encode(x[:2]))


def test_samples_are_decoded_draws_of_the_prior() -> None:
    model = tiny()
    whole = model.sample(5, seed=3)
    assert whole.shape == (5, *SHAPE)
    assert 0 <= whole.min() <= whole.max() <= 1
    torch.testing.assert_close(whole[3:], model.sample(2, seed=3, start=3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "deep"}, "network must be 'dense' or 'convolutional', got 'deep'"),
        ({"encoder": "beta"}, "encoder must be 'deterministic' or 'gaussian', got 'beta'"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"prior_deviation": 0.0}, r"prior_deviation must be greater than 0, got 0\.0"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|: 0 for equal laws."""
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def permutation_test(x: Tensor, y: Tensor, times: int = 200) -> float:
    """The p-value of the energy distance if both samples were of one law."""
    torch.manual_seed(0)
    both, found = torch.cat([x, y]), energy_distance(x, y)
    larger = 0
    for _ in range(times):
        order = torch.randperm(len(both))
        larger += energy_distance(both[order[: len(x)]], both[order[len(x) :]]) >= found
    return (larger + 1) / (times + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"network": "dense", "encoder": "deterministic"},
        {"network": "dense", "encoder": "gaussian"},
        {"network": "convolutional", "encoder": "deterministic"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_codes_follow_the_prior_and_images_come_back(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Codes of training images against as many draws of the prior, by a two-sample test."""
    epochs = 250 if settings["network"] == "convolutional" else 100
    config = {
        "model": {
            "name": "adversarial-autoencoder",
            **settings,
            **{"latent_dim": 4, "width": 128, "channels": 16, "prior_deviation": 1.0},
        },
        **{"data": "digits", "epochs": epochs, "lr": 1e-3, "schedule": "late-linear"},
        **{"sample_every": 0, "threads": 1},
    }
    trainer = Trainer.start(TrainConfig.from_dict(config), tmp_path, quiet=True)
    model, x = trainer.model, trainer.data.test.images.float() / 16
    known = trainer.data.train.images[:600].float() / 16
    prior = torch.randn(len(known), 4, generator=torch.Generator().manual_seed(1))
    if settings["encoder"] == "deterministic":  # a Gaussian one starts out near N(0, 1)
        assert permutation_test(model.eval().encode(known).detach(), prior) < 0.01
    assert trainer.run()
    assert permutation_test(model.eval().encode(known).detach(), prior) > 0.01
    error = (model.reconstruct(x) - x).square().flatten(1).sum(1).mean()
    blank = (x.mean(0) - x).square().flatten(1).sum(1).mean()
    assert error < blank / 2
