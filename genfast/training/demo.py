"""`genfast demo`: train on handwritten digits, sample, complete, benchmark, leave a report page.

The folder then holds index.html, real.png, samples.png, completions.png, curve.png,
benchmarks.json, benchmarks.png, results.json and run/, the training run itself.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genfast.data import ImageData
from genfast.data.extras import require
from genfast.training.config import TrainConfig
from genfast.training.curves import save_curve
from genfast.training.evaluate import evaluate, independent_pixels
from genfast.training.files import write_atomically, write_json
from genfast.training.images import image_grid, save_png
from genfast.training.report import render
from genfast.training.trainer import Trainer, TrainingError

#: The settings of the demo: about one minute on two idle cores; a slow machine is cut off after five.
DEMO_CONFIG = TrainConfig(
    data="digits",
    conditional=True,
    model_settings={"channels": 32, "layers": 6},
    epochs=60,
    max_minutes=5.0,
    batch_size=32,
    sample_every=10,
    samples=40,
    log_every=20,
)

#: How many fewer bits/dim than independent pixels the model must need for the demo to succeed.
REQUIRED_IMPROVEMENT = 0.20

_PER_DIGIT = 10  # pictures in a row
_COMPLETIONS = 4  # continuations of each given half


def run_demo(
    out: str | Path,
    benchmark: Callable[[list[str]], int | None],
    config: TrainConfig = DEMO_CONFIG,
) -> bool:
    """Make the demo in folder `out`; False if training was interrupted.

    `benchmark` runs the benchmarks: it takes the arguments of `genfast bench`, gives its exit code.
    Raises `TrainingError` if the model does not need 20 % fewer bits/dim than independent pixels,
    after all is written.
    """
    out = Path(out)
    require("matplotlib", "bench")  # now rather than after the training
    (out / "index.html").unlink(missing_ok=True)  # no page of an older run beside newer pictures
    trainer = Trainer.start(config, out / "run", overwrite=True)
    if not trainer.run():
        return False
    figures = _measure(trainer)
    _draw(trainer, out)
    every_epoch = trainer.history.rows(
        max(1, trainer.steps_per_epoch), figures["train_images"], trainer.steps_per_epoch
    )
    save_curve(
        out / "curve.png",
        every_epoch,
        trainer.model.unit,
        level=figures["independent_pixels"]["bits_per_dim"],
    )
    results = out / "benchmarks.json"
    if benchmark(["--quick", "--json", str(results), "--plot", str(out / "benchmarks.png")]):
        raise TrainingError("the benchmarks of the demo failed; what they printed says why")
    write_json(out / "results.json", figures)
    write_atomically(out / "index.html", render(figures, json.loads(results.read_text())))
    test, plain = figures["test"]["bits_per_dim"], figures["independent_pixels"]["bits_per_dim"]
    summary = (
        f"test set {test:.4f} bits/dim, independent pixels {plain:.4f}: "
        f"{figures['improvement']:.1%} fewer"
    )
    print(f"{summary}\nreport: {out / 'index.html'}")
    if not figures["passed"]:
        raise TrainingError(f"{summary}, but {REQUIRED_IMPROVEMENT:.0%} are required")
    return True


def _measure(trainer: Trainer) -> dict[str, Any]:
    """All figures of the report page, as JSON values."""
    data, model, history = trainer.data, trainer.evaluated, trainer.history
    test = evaluate(model, data.test, labels=True)
    plain = independent_pixels(data.train, data.test, data.levels)
    by_class = independent_pixels(data.train, data.test, data.levels, num_classes=data.num_classes)
    improvement = 1 - test.bits_per_dim / plain.bits_per_dim
    epochs = trainer.step / trainer.steps_per_epoch
    return {
        "schema": 1,
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "config": trainer.config.to_dict(),
        "train_images": len(data.train),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": trainer.step,
        "epochs": round(epochs, 2),
        "training_seconds": history.seconds[-1],
        "images_per_second": epochs * len(data.train) / history.seconds[-1],
        "test": test.to_dict(),
        "independent_pixels": plain.to_dict(),
        "independent_pixels_by_class": by_class.to_dict(),
        "improvement": improvement,
        "required_improvement": REQUIRED_IMPROVEMENT,
        "passed": improvement >= REQUIRED_IMPROVEMENT,
        "environment": {
            "genfast": metadata.version("genfast"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "threads": torch.get_num_threads(),
        },
    }


def _draw(trainer: Trainer, out: Path) -> None:
    """real.png and samples.png with a row for each digit, and completions.png."""
    data, model = trainer.data, trainer.evaluated
    model.eval()
    classes = torch.arange(data.num_classes)
    real = _of_each_class(data, _PER_DIGIT)
    labels = classes.repeat_interleave(_PER_DIGIT)
    samples = model.sample(len(labels), seed=1, labels=labels)
    first = real[::_PER_DIGIT].to(torch.int64)  # one of each digit
    known = torch.zeros_like(first, dtype=torch.bool)
    known[:, :, : first.shape[2] // 2] = True
    times = (_COMPLETIONS, 1, 1, 1)
    completed = model.sample(
        _COMPLETIONS * len(first),
        seed=2,
        labels=classes.repeat(_COMPLETIONS),
        given=first.repeat(times),
        mask=known.repeat(times),
    )
    half = first.where(known, torch.tensor(data.levels // 2))  # what is hidden is shown grey
    for name, images, columns in (
        ("real", real, _PER_DIGIT),
        ("samples", samples, _PER_DIGIT),
        ("completions", torch.cat([first, half, completed]), data.num_classes),
    ):
        save_png(out / f"{name}.png", image_grid(images, data.levels, columns))


def _of_each_class(data: ImageData, count: int) -> Tensor:
    """The first `count` test images of each class, in the order of the classes."""
    assert data.test.labels is not None
    chosen = [data.test.images[data.test.labels == c][:count] for c in range(data.num_classes)]
    return torch.cat(chosen)
