"""`genfast eval RUN`: likelihood on held-out images."""

from __future__ import annotations

import argparse
from pathlib import Path


def run(run: Path, split: str, data_dir: str | None, batch_size: int, json: Path | None) -> int:
    from dataclasses import asdict

    from genfast.training import evaluate, independent_pixels, open_run
    from genfast.training.files import write_json

    if batch_size < 1:
        raise ValueError(f"--batch-size: must be greater than 0, got {batch_size}")
    opened = open_run(run, **({} if data_dir is None else {"data_dir": data_dir}))
    data, model = opened.load_data(), opened.model
    images = getattr(data, split)
    results = {"model": evaluate(model, images, labels=model.num_classes > 0, batch_size=batch_size)}
    results["independent pixels"] = independent_pixels(data.train, images, data.levels)
    if model.num_classes:
        results["independent pixels given the class"] = independent_pixels(
            data.train, images, data.levels, num_classes=model.num_classes
        )
    print(f"{data.name}, {split}, {len(images)} images")
    for name, result in results.items():
        print(
            f"{name:36}{result.bits_per_dim:8.4f} +- {result.standard_error:.4f} bits/dim"
            f"{result.nats:11.2f} nats an image"
        )
    if json is not None:
        values = {name: {**asdict(r), "nats": r.nats} for name, r in results.items()}
        write_json(json, {"run": str(run), "data": data.name, "split": split, "results": values})
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
