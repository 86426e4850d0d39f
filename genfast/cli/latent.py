"""`genfast latent RUN`: what a model's codes are good for, in figures and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def run(
    run: Path,
    out: Path | None,
    data_dir: str | None,
    best: bool,
    classifier_epochs: int,
    classifier_hidden: int,
    seed: int,
) -> int:
    from dataclasses import asdict

    import torch

    from genfast.training import BEST, CHECKPOINT, open_run
    from genfast.training.augmentation import ClassifierConfig, compare_augmentation, describe
    from genfast.training.cache_report import report_cache
    from genfast.training.codes import knn_errors, mean_codes
    from genfast.training.files import write_json
    from genfast.training.latent_pictures import draw_pictures

    for flag, value, least in (("epochs", classifier_epochs, 0), ("hidden", classifier_hidden, 1)):
        if value < least:
            raise ValueError(f"--classifier-{flag}: must be {least} or more, got {value}")
    moved: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    opened = open_run(run, file=BEST if best else CHECKPOINT, **moved)
    model = opened.model
    if not hasattr(model, "reconstruct"):
        raise ValueError(f"{run}: {opened.config.model} has no code that could be looked at")
    if classifier_epochs and not hasattr(model, "generate"):
        raise ValueError(f"--classifier-epochs: {opened.config.model} generates no images from images")
    data = opened.load_data()
    results: dict[str, Any] = {}
    known, asked = mean_codes(model, data.train), mean_codes(model, data.test)
    if data.train.labels is not None and data.test.labels is not None:
        held = data.validation
        assert held.labels is not None
        codes = torch.cat([known, mean_codes(model, held)])
        labels = torch.cat([data.train.labels, held.labels])
        errors = knn_errors(codes, labels, asked, data.test.labels)
        results["knn_errors"] = {str(k): error for k, error in errors.items()}
        print(f"error of k nearest neighbours in latent space, {len(asked)} test images:")
        print("  " + ", ".join(f"k={k}: {100 * error:.2f} %" for k, error in errors.items()))
    report = report_cache(run, **moved)
    if report is not None:
        results["cache"] = asdict(report)
        print(report.describe())
    if classifier_epochs:
        settings = ClassifierConfig(epochs=classifier_epochs, hidden=classifier_hidden, seed=seed)
        results["augmentation"] = compare_augmentation(model, opened.load_intensities(), settings)
        print(describe(results["augmentation"]))
    folder = out or run / "latent"
    draw_pictures(folder, model, data, known, asked)
    write_json(folder / "latent.json", {"run": str(run), "data": data.name, **results})
    print(f"pictures and figures: {folder}")
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the pictures (RUN/latent)")
    parser.add_argument("--best", action="store_true", help="the weights that early stopping found best")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument(
        "--classifier-epochs",
        type=int,
        default=0,
        metavar="N",
        help="also train a classifier for N epochs, with and without generated images (Exemplar VAE)",
    )
    parser.add_argument(
        "--classifier-hidden", type=int, default=1024, metavar="N", help="its hidden units (1024)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the classifier (0)")
