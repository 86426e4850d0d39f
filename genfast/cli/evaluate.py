"""`genfast eval RUN`: likelihood on held-out images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genfast.training import Evaluation


def run(
    run: Path,
    split: str,
    data_dir: str | None,
    batch_size: int,
    max_images: int | None,
    device: str,
    best: bool,
    json: Path | None,
) -> int:
    from genfast.training import BEST, CHECKPOINT, evaluate, open_run
    from genfast.training.distributed import Processes
    from genfast.training.evaluate import baselines, spread
    from genfast.training.files import write_json

    for flag, value in (("--batch-size", batch_size), ("--max-images", max_images)):
        if value is not None and value < 1:
            raise ValueError(f"{flag}: must be greater than 0, got {value}")
    with Processes.from_environment(device) as processes:
        moved = {} if data_dir is None else {"data_dir": data_dir}
        opened = open_run(run, file=BEST if best else CHECKPOINT, **moved)
        if not hasattr(opened.model, "log_prob"):
            raise ValueError(f"{run}: {opened.config.model} has no likelihood that could be measured")
        data, model = opened.load_data(), opened.model.to(processes.device)
        images = spread(getattr(data, split), max_images)
        result = evaluate(
            model,
            images,
            labels=model.num_classes > 0,
            batch_size=batch_size,
            processes=processes,
            progress=True,
        )
        if not processes.is_main:
            return 0
        results = {"model": result, **baselines(data, images, model.num_classes, model.unit)}
    print(f"{data.name}, {split}, {result.count} images")
    for name, figure in results.items():
        print(f"{name:36}{_text(figure)}{figure.nats:11.2f} nats an image")
    print(f"+- the standard error of the mean over images; 95 % interval: {result.interval_method}")
    if json is not None:
        values = {name: figure.to_dict() for name, figure in results.items()}
        write_json(json, {"run": str(run), "data": data.name, "split": split, "results": values})
    return 0


def _text(figure: Evaluation) -> str:
    low, high = figure.interval
    return f"{figure.mean:9.4f} +- {figure.standard_error:.4f} {figure.unit} [{low:.4f}, {high:.4f}]"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument(
        "--max-images", type=int, metavar="N", help="only N images, spread over the split"
    )
    parser.add_argument("--best", action="store_true", help="the weights that early stopping found best")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
