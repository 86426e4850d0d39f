"""Exhibits of models of two players, trained on handwritten digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genfast.divergences import gan_value
from genfast.gallery.digits import COLUMNS, Judge, draw, held_out, train
from genfast.gallery.exhibit import Exhibit, Finding
from genfast.models import DCGAN
from genfast.models.adversarial.losses import discriminator_loss
from genfast.training.trainer import Trainer

_ROWS = 4
_JUDGED = 500
_CAPTION = "First row: real test images. Below: samples, not selected."


def _classes_among_samples(folder: Path, settings: dict[str, Any]) -> tuple[int, float, Trainer]:
    """How many of the ten digits a trained model draws, and the largest share that one of them has."""
    trainer = train(folder, settings)
    model = trainer.evaluated.eval()
    found = Judge(trainer.data).classes_of(model.sample(_JUDGED, seed=2))
    draw(folder, held_out(trainer), model.sample(COLUMNS * (_ROWS - 1), seed=1))
    return len(set(found)), max(found.count(c) for c in range(10)) / _JUDGED, trainer


def _gan(folder: Path) -> Finding:
    settings = {
        "model": {"name": "gan", "hidden": 256},
        **{"epochs": 300, "max_minutes": 1.2, "lr": 2e-4, "beta1": 0.5, "ema": 0.995},
    }
    classes, largest, _ = _classes_among_samples(folder, settings)
    densities = torch.full((100,), 0.01, dtype=torch.float64)
    optimum = gan_value(densities, densities).item()
    return Finding(
        figure=f"{classes} of 10 digits among {_JUDGED} samples; the most frequent one {largest:.0%}",
        check=f"against the optimal discriminator equal densities have the value {optimum:.6f}, -2 log "
        "2; a classifier trained on real digits finds at least eight of them among the samples",
        passed=abs(optimum + 2 * math.log(2)) <= 1e-12 and classes >= 8,
        caption=_CAPTION,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _dcgan(folder: Path) -> Finding:
    published = DCGAN((3, 64, 64), 256)
    sizes = _parameters(published.generator), _parameters(published.discriminator)
    settings = {
        "model": {"name": "dcgan", "width": 12},
        **{"image_size": 32, "epochs": 100, "max_minutes": 1.5, "ema": 0.99},
    }
    classes, largest, _ = _classes_among_samples(folder, settings)
    return Finding(
        figure=f"{classes} of 10 digits among {_JUDGED} samples; the most frequent one {largest:.0%}",
        check=f"at the published size the networks have {sizes[0]:,} and {sizes[1]:,} parameters "
        "(3,576,704 and 2,765,568); at least eight digits are found among the samples",
        passed=sizes == (3_576_704, 2_765_568) and classes >= 8,
        caption=_CAPTION,
    )


def _conditional_gan(folder: Path) -> Finding:
    settings = {
        "model": {"name": "conditional-gan", "width": 128, "latent_dim": 32},
        **{"epochs": 120, "max_minutes": 1.5, "lr": 5e-4, "ema": 0.995, "conditional": True},
    }
    trainer = train(folder, settings)
    model = trainer.evaluated.eval()
    asked = torch.arange(_JUDGED) % 10
    found = torch.tensor(Judge(trainer.data).classes_of(model.sample(_JUDGED, seed=2, labels=asked)))
    agreement = (found == asked).double().mean().item()
    draw(folder, model.sample(10 * _ROWS, seed=1, labels=torch.arange(10 * _ROWS) % 10))
    return Finding(
        figure=f"{agreement:.1%} of {_JUDGED} samples are of the class that was asked for",
        check="a classifier trained on real digits agrees in at least 90 %",
        passed=agreement >= 0.9,
        caption="A column for each class, 0 to 9; samples, not selected.",
    )


def _linear_critic(clip: float, shift: float) -> float:
    """What a linear critic with clipped weights measures between two laws that a shift takes apart."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(2000, 1, dtype=torch.float64, generator=generator)
    weight = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.RMSprop([weight], 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        discriminator_loss(real @ weight, (real - shift) @ weight, "wasserstein").backward()
        optimiser.step()
        with torch.no_grad():
            weight.clamp_(-clip, clip)
    return -discriminator_loss(real @ weight, (real - shift) @ weight, "wasserstein").item()


def _wgan(folder: Path) -> Finding:
    clip, shift = 0.05, 3.0
    measured = _linear_critic(clip, shift)
    settings = {
        "model": {"name": "wgan", "constraint": "penalty", "network": "dense", "width": 256},
        **{"optimizer": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9, "ema": 0.99},
        **{"epochs": 600, "max_minutes": 1.5},
    }
    classes, largest, _ = _classes_among_samples(folder, settings)
    return Finding(
        figure=f"{classes} of 10 digits among {_JUDGED} samples; the most frequent one {largest:.0%}",
        check=f"a linear critic clipped at {clip} measures {measured:.12f} between laws at distance "
        f"{shift:g}, which is their product; at least eight digits are found among the samples",
        passed=abs(measured - clip * shift) <= 1e-12 and classes >= 8,
        caption=_CAPTION,
    )


GAN = Exhibit("gan", "GAN", "Goodfellow et al. 2014", _gan)
DCGAN_EXHIBIT = Exhibit("dcgan", "DCGAN", "Radford, Metz, Chintala 2016", _dcgan)
CONDITIONAL_GAN = Exhibit("conditional-gan", "Conditional GAN", "Mirza, Osindero 2014", _conditional_gan)
WGAN = Exhibit(
    "wgan",
    "WGAN, clipped and with gradient penalty",
    "Arjovsky, Chintala, Bottou 2017; Gulrajani et al. 2017",
    _wgan,
)
