"""What the tests of sampling share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from genfast import cli
from genfast.models import MODELS
from genfast.training.samples import Drawing


def sample(run: Path, out: Path | str, *flags: str, n: int = 12) -> None:
    assert cli.main(["sample", str(run), "-n", str(n), "--out", str(out), *flags]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def small(image_shape: tuple[int, int, int] = (1, 4, 4), **settings: Any) -> Drawing:
    torch.manual_seed(0)
    model = MODELS["gated-pixelcnn"](image_shape, 3, channels=6, layers=2, num_classes=0)
    return Drawing(model, **settings)
