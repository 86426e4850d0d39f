"""`genfast directions RUN`: interpretable directions in the latent space of a trained generator."""

from __future__ import annotations

import argparse
from pathlib import Path


def run(
    run: Path,
    k: int,
    steps: int,
    out: Path | None,
    batch_size: int,
    lr: float,
    directions_lr: float | None,
    parametrization: str,
    reconstructor: str,
    seed: int,
    device: str,
) -> int:
    import torch

    from genfast.training import open_run
    from genfast.training.direction_files import directions_of, save_directions
    from genfast.training.directions import train_directions
    from genfast.training.distributed import pick_device

    where = pick_device(device)
    opened = open_run(run)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = directions_of(
            opened.model.to(where), k, parametrization=parametrization, reconstructor=reconstructor
        ).to(where)
    folder = run / "directions" if out is None else out
    folder.mkdir(parents=True, exist_ok=True)  # at once: an unwritable place shows before the training
    losses = train_directions(
        model,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        directions_lr=directions_lr,
        seed=seed,
        progress=True,
    )
    figures = save_directions(folder, model, losses, seed)
    print(f"RCA {figures['rca']:.4f} (random directions may reach as much), loss {figures['loss']:.4f}")
    print(
        f"direction {figures['background_direction']} changes the background most, "
        f"at {figures['background_magnitude']:+g}"
    )
    print(f"directions: {folder}")
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("-k", type=int, default=16, help="number of directions (16)")
    parser.add_argument(
        "--steps", type=int, default=2000, help="of training; 100000 in the paper (2000)"
    )
    parser.add_argument("--out", type=Path, help="folder (RUN/directions)")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of images a step (32)")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate (0.0001)")
    parser.add_argument("--directions-lr", type=float, help="that of the directions (as --lr)")
    parser.add_argument(
        "--parametrization", choices=("orthonormal", "unit"), default="orthonormal", help="(orthonormal)"
    )
    parser.add_argument(
        "--reconstructor", choices=("lenet", "resnet18"), default="lenet", help="(lenet)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
