"""Exhibits of models from one kind of image to another, on domains made of handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.gallery.digits import COLUMNS, draw, train
from genfast.gallery.exhibit import Exhibit, Finding
from genfast.models.adversarial.patch_discriminator import PatchDiscriminator
from genfast.training.images import to_unit


def _translated(folder: Path, settings: dict[str, Any]) -> tuple[Any, Tensor, Tensor, Tensor]:
    """A trained model, the held-out images of both domains, and what it makes of the first."""
    trainer = train(folder, {"image_size": 16, "schedule": "late-linear", **settings})
    model, images = trainer.evaluated.eval(), trainer.data.test.images
    a, b = to_unit(images, trainer.data.levels).split(1, 1)
    return model, a, b, model.sample(len(a), given=a)


def _distance(x: Tensor, y: Tensor) -> float:
    return (x - y).abs().mean().item()


def _receptive_field() -> int:
    """Pixels, along a row, that one output of the published discriminator sees: by its Jacobian."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        judge = PatchDiscriminator(1, width=4, layers=3).double().eval()
        x = torch.randn(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = judge(x)
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    seen = gradient[0, 0].abs().amax(0).nonzero()
    return int(seen.max() - seen.min()) + 1


def _pix2pix(folder: Path) -> Finding:
    _, outlines, digits, made = _translated(
        folder,
        {
            "model": {"name": "pix2pix", "width": 16, "patch_layers": 2},
            **{"domains": "edges", "batch_size": 16, "epochs": 12, "max_minutes": 1.5},
        },
    )
    draw(folder, *(images[:COLUMNS] for images in (outlines, made, digits)))
    error, copying, field = _distance(made, digits), _distance(outlines, digits), _receptive_field()
    return Finding(
        figure=f"mean difference from the held-out digit {error:.3f}; of its outline {copying:.3f}",
        check=f"an output of the published discriminator sees {field} pixels (70), by its Jacobian; the "
        "translation is less than half as far from the truth as copying",
        passed=field == 70 and error < copying / 2,
        caption="Outlines of held-out digits; what the model fills in; the digits themselves.",
    )


def _cyclegan(folder: Path) -> Finding:
    model, a, b, made = _translated(
        folder,
        {
            "model": {
                **{"name": "cyclegan", "width": 12, "blocks": 2, "patch_layers": 1},
                "identity_weight": 0.0,
            },
            **{"domains": "negative", "batch_size": 8, "epochs": 20, "lr": 1e-3, "max_minutes": 2.5},
        },
    )
    with torch.no_grad():
        back = (model.to_a(2 * made - 1) + 1) / 2
    draw(folder, *(images[:COLUMNS] for images in (a, made, back, b)))
    error, copying, cycle = _distance(made, b), _distance(a, b), _distance(back, a)
    return Finding(
        figure=f"mean difference from the true negative {error:.3f} (of copying {copying:.3f}); there "
        f"and back {cycle:.3f}",
        check="trained on images that have no partners, it finds the map that is known: less than a "
        "fifth of copying's distance from held-out partners",
        passed=error < copying / 5,
        caption="Held-out digits; their translations; back again; the true negatives.",
    )


PIX2PIX = Exhibit("pix2pix", "Pix2Pix", "Isola, Zhu, Zhou, Efros 2017", _pix2pix)
CYCLEGAN = Exhibit("cyclegan", "CycleGAN", "Zhu, Park, Isola, Efros 2017", _cyclegan)
