"""Small runs of the adversarial models that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genfast.training import Processes, TrainConfig, Trainer

SMALL: dict[str, dict[str, Any]] = {
    "gan": {"hidden": 8, "latent_dim": 4},
    "dcgan": {"width": 4, "latent_dim": 4},
    "conditional-gan": {"width": 8, "latent_dim": 4},
    "adversarial-autoencoder": {"width": 8, "latent_dim": 3, "encoder": "gaussian"},
    "pix2pix": {"width": 4, "patch_layers": 1},
    "cyclegan": {"width": 4, "patch_layers": 1, "blocks": 1, "pool": 200},
    "wgan": {"width": 4, "latent_dim": 4, "constraint": "penalty", "discriminator_steps": 2},
}
CONDITIONAL = {"conditional-gan"}
DOMAINS = {"pix2pix": "edges", "cyclegan": "negative"}


def start(
    run_dir: Path,
    name: str = "gan",
    model: dict[str, Any] | None = None,
    processes: Processes | None = None,
    **run: Any,
) -> Trainer:
    settings: dict[str, Any] = {
        "model": {"name": name, **SMALL[name], **(model or {})},
        "data": "digits",
        "batch_size": 120,
        "epochs": 2,
        "sample_every": 0,
        "seed": 7,
        "conditional": name in CONDITIONAL,
        "schedule": "constant",
    }
    if name in DOMAINS:
        settings["domains"] = DOMAINS[name]
    config = TrainConfig.from_dict(settings | run)
    return Trainer.start(config, run_dir, quiet=True, processes=processes)
