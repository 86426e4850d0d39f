"""Conditional GAN: both players are told the class, and the class asked for is the class made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genfast.models import ConditionalGAN
from genfast.training import ConfigError, TrainConfig, Trainer

SHAPE = (1, 8, 8)
networks = pytest.mark.parametrize("network", ["dense", "convolutional"])


def tiny(**changes: Any) -> ConditionalGAN:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_classes": 3, "width": 8, "latent_dim": 4}
    return ConditionalGAN(SHAPE, levels=17, **settings | changes).double()


@networks
def test_both_players_see_the_label(network: Any) -> None:
    model = tiny(network=network).eval()
    z, x = torch.randn(2, 4).double(), torch.rand(2, *SHAPE).double()
    for judged, given in ((model.generate, z), (model.logits, x)):
        outcomes = [judged(given, torch.full((2,), label)) for label in range(3)]
        assert not torch.allclose(outcomes[0], outcomes[1])
        assert not torch.allclose(outcomes[1], outcomes[2])


def test_a_generated_image_is_judged_with_the_class_it_was_asked_for() -> None:
    """D(G(z|y) | y): the losses are those of one class at a time, each with its own noise."""
    model, x, labels = tiny(), torch.rand(6, *SHAPE).double(), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.manual_seed(1)
    loss = model.generator_loss(x, labels)
    torch.manual_seed(1)
    z = model.noise(6)
    each = [
        -model.logits(model.generate(z[i : i + 1], labels[i : i + 1]), labels[i : i + 1]).sigmoid().log()
        for i in range(6)
    ]
    torch.testing.assert_close(loss, torch.cat(each).mean())


def test_labels_are_checked() -> None:
    model, x = tiny(), torch.rand(2, *SHAPE).double()
    with pytest.raises(ValueError, match="labels are needed: the model has 3 classes"):
        model.discriminator_loss(x)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got 1..3"):
        model.discriminator_loss(x, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        tiny(num_classes=0)
    assert model.sample(2, labels=1).shape == (2, *SHAPE)


def test_a_run_without_labels_is_refused(tmp_path: Path) -> None:
    settings = {"model": {"name": "conditional-gan"}, "data": "digits", "conditional": False}
    with pytest.raises(ConfigError, match=r"num_classes must be at least 2 \(see conditional"):
        Trainer.start(TrainConfig.from_dict(settings), tmp_path, quiet=True)


@pytest.mark.slow
def test_the_class_asked_for_is_the_class_made(tmp_path: Path) -> None:
    """By a classifier that knows real digits only; and they are not all the same image."""
    from sklearn.svm import SVC

    settings = {
        "model": {"name": "conditional-gan", "width": 128, "latent_dim": 32},
        **{"data": "digits", "epochs": 120, "lr": 5e-4, "sample_every": 0, "ema": 0.995},
    }
    trainer = Trainer.start(TrainConfig.from_dict(settings), tmp_path, quiet=True)
    assert trainer.run()
    train, test = trainer.data.train, trainer.data.test
    assert train.labels is not None
    assert test.labels is not None
    judge = SVC().fit(train.images.flatten(1).numpy(), train.labels.numpy())
    assert judge.score(test.images.flatten(1).numpy(), test.labels.numpy()) > 0.97
    labels = torch.arange(1000) % 10
    levels = (trainer.evaluated.sample(1000, seed=1, labels=labels) * 16).round().flatten(1)
    assert judge.score(levels.numpy(), labels.numpy()) >= 0.9
    real = train.images[train.labels == 3].float().flatten(1).std(0).mean()
    assert levels[labels == 3].std(0).mean() > real / 3
