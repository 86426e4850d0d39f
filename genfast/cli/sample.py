"""`genfast sample RUN`: images drawn from a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def run(run: Path, n: int, out: Path, seed: int, temperature: float, label: int | None) -> int:
    import torch

    from genfast.training import image_grid, open_run, save_png

    if n < 1:
        raise ValueError(f"-n: must be greater than 0, got {n}")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out: must be a .png file, got {out}")
    model = open_run(run).model
    classes = model.num_classes
    if label is not None and not 0 <= label < classes:
        wanted = f"0 to {classes - 1}" if classes else "left out, the model is not conditional"
        raise ValueError(f"--label: must be {wanted}, got {label}")
    labels = None
    if classes:  # without --label, the classes in turn
        labels = torch.arange(n) % classes if label is None else torch.full((n,), label)
    images = model.sample(
        n, seed=seed, labels=labels, temperature=temperature, progress=sys.stderr.isatty()
    )
    columns = classes if label is None and 1 < classes <= 16 else None
    save_png(out, image_grid(images, model.levels, columns))
    print(f"{n} samples: {out}")
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("-n", type=int, default=64, help="number of images (64)")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="PNG file (grid.png)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier (1.0)")
    parser.add_argument("--label", type=int, help="only this class, for a conditional model")
