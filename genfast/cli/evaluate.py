"""`genfast eval RUN`: likelihood on held-out images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genfast.data import ImageData, Split
    from genfast.training import Evaluation


def run(
    run: Path,
    split: str,
    data_dir: str | None,
    batch_size: int,
    max_images: int | None,
    device: str,
    best: bool,
    importance_samples: int | None,
    inception: Path | None,
    json: Path | None,
) -> int:
    from functools import partial

    from genfast.models.adversarial import AdversarialModel
    from genfast.training import BEST, CHECKPOINT, open_run
    from genfast.training.distributed import Processes
    from genfast.training.evaluate import spread
    from genfast.training.figures import measure
    from genfast.training.files import write_json
    from genfast.training.sample_figures import measure_samples

    for flag, value in (("--batch-size", batch_size), ("--max-images", max_images)):
        if value is not None and value < 1:
            raise ValueError(f"{flag}: must be greater than 0, got {value}")
    with Processes.from_environment(device) as processes:
        moved = {} if data_dir is None else {"data_dir": data_dir}
        opened = open_run(run, file=BEST if best else CHECKPOINT, **moved)
        data, model = opened.load_data(), opened.model.to(processes.device)
        images = spread(getattr(data, split), max_images)
        if isinstance(model, AdversarialModel):
            if importance_samples is not None:
                raise ValueError(f"--importance-samples: {opened.config.model} has no likelihood")
            measured = partial(
                measure_samples, model, data, images, inception=inception, batch_size=batch_size
            )
            samples = processes.on_main(measured)
            return _print_samples(run, data, split, images, samples, json) if processes.is_main else 0
        if inception is not None:
            raise ValueError(
                f"--inception: is for adversarial models, {opened.config.model} is measured"
            )
        figures = measure(
            model,
            data,
            images,
            processes,
            batch_size=batch_size,
            importance_samples=importance_samples,
        )
        if not processes.is_main:
            return 0
    first = next(iter(figures.rows.values()))
    print(f"{data.name}, {split}, {first.count} images")
    for name, figure in figures.rows.items():
        print(f"{name:36}{_text(figure)}")
    print(f"+- the standard error of the mean over images; 95 % interval: {first.interval_method}")
    if figures.sampling_error is not None:
        print(
            f"{importance_samples} importance samples an image; the standard error of one image's "
            f"estimate is {figures.sampling_error:.3f} nats (root mean square)"
        )
    if json is not None:
        described: dict[str, Any] = {"run": str(run), "data": data.name, "split": split}
        if importance_samples is not None:
            described["importance_samples"] = importance_samples
        write_json(json, {**described, "results": figures.to_dict()})
    return 0


def _print_samples(
    run: Path, data: ImageData, split: str, images: Split, figures: dict[str, float], json: Path | None
) -> int:
    """The figures of an adversarial model."""
    from genfast.training.files import write_json

    print(f"{data.name}, {split}, {len(images)} images")
    for name, figure in figures.items():
        print(f"{name:36}{figure:11.4f}")
    if "recall" in figures:
        print("of features, k = 3; these are not the FID, precision and recall of the papers")
    if json is not None:
        described = {"run": str(run), "data": data.name, "split": split, "count": len(images)}
        write_json(json, {**described, "results": figures})
    return 0


def _text(figure: Evaluation) -> str:
    """The negative log-likelihood, the smaller the better (or what the model has instead)."""
    from genfast.training.estimates import OTHER_UNITS

    low, high = figure.interval
    mean, error = figure.mean, figure.standard_error
    text = f"{mean:9.4f} +- {error:.4f} {figure.unit} [{low:.4f}, {high:.4f}]"
    return text if figure.unit in OTHER_UNITS else f"{text}{figure.nats:11.2f} nats an image"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument(
        "--max-images", type=int, metavar="N", help="only N images, spread over the split"
    )
    parser.add_argument(
        "--importance-samples",
        type=int,
        metavar="N",
        help="also estimate the likelihood from N samples an image (VAEs; papers: 5000)",
    )
    parser.add_argument("--best", action="store_true", help="the weights that early stopping found best")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument(
        "--inception",
        type=Path,
        metavar="FILE",
        help="of an adversarial model: take features from torchvision's inception_v3 with these weights",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
