"""Keeps what a recipe gave: figures, curve and pictures of a run, and the page made of them.

    genfast train --config recipes/NAME.toml --data-dir FOLDER --out runs/NAME ...
    python recipes/record.py runs/NAME --name NAME --command "genfast train ..."

writes recipes/results/NAME/{result.json, metrics.csv, curve.png, samples.png, ...}, and
docs/recipes.md anew from all of recipes/results/. `--classifier` only trains the classifiers of an
Exemplar VAE anew, `--page` only writes the page, `--check` only says whether it is current.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from genfast.benchmarks.environment import environment
from genfast.data import ImageData
from genfast.training import Processes, Run, evaluate, independent_pixels, open_run
from genfast.training.augmentation import ClassifierConfig, compare_augmentation
from genfast.training.codes import knn_errors, mean_codes
from genfast.training.curves import save_curve
from genfast.training.evaluate import spread
from genfast.training.files import write_atomically, write_json
from genfast.training.history import History
from genfast.training.images import image_grid, save_png
from genfast.training.importance_score import ImportanceScore
from genfast.training.latent_pictures import draw_pictures
from genfast.training.model_images import validation_score
from genfast.training.samples import Drawing

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
COMPLETED = 8  # test images, a column each
# Of models whose likelihood is estimated: the published number of samples, for so many test images.
IMPORTANCE_SAMPLES, IMPORTANCE_IMAGES = 5000, 200
CLASSIFIER = ClassifierConfig(epochs=50)  # published: 100 epochs

#: What a picture beyond curve and samples shows.
PICTURES = {
    "completions": "Test images, the upper half that the model is given, three ways in which it goes on",
    "reconstructions": "Test images, each above its reconstruction",
    "neighbours": "Test images, and the seven training images whose codes are nearest",
    "interpolations": "From one test image to another on the line between their codes",
    "latent-map": "Codes of the test images on their two principal axes",
}


def record(run_dir: Path, name: str, command: str, data_dir: str | None) -> None:
    """Evaluates and draws from a run, and writes its folder under recipes/results/."""
    run = open_run(run_dir, **({} if data_dir is None else {"data_dir": data_dir}))
    data, model = run.load_data(), run.model
    history = History.from_tensors(run.checkpoint.part("history"))
    steps_per_epoch = -(-len(data.train) // run.config.batch_size)
    test = evaluate(model, data.test, labels=run.config.conditional, score=validation_score(model))
    plain = independent_pixels(data.train, data.test, data.levels, unit=model.unit)
    rows = history.rows(run.config.log_every, len(data.train), steps_per_epoch)
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    level = plain.bits_per_dim if model.unit == "bits/dim" else plain.nats
    save_curve(folder / "curve.png", rows, model.unit, level=level)
    draw(model, data, folder, run.config.seed)
    shutil.copyfile(run_dir / "metrics.csv", folder / "metrics.csv")
    result = {
        "schema": 1,
        "command": command,
        "env": environment(
            device="cpu", threads=run.config.threads or torch.get_num_threads(), steady_malloc=False
        ),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": len(history.losses),
        "epochs": len(history.losses) / steps_per_epoch,
        "training_minutes": history.seconds[-1] / 60,
        "test": {**asdict(test), "nats": test.nats, "interval": test.interval},
        "independent_pixels": {**asdict(plain), "nats": plain.nats},
    }
    if hasattr(model, "importance_estimate"):
        result["importance"] = importance(model, data)
        if data.test.labels is not None:
            result["knn_errors"] = neighbours(model, data)
    if hasattr(model, "generate") and data.train.labels is not None:
        result["augmentation"] = augmentation(run)
    write_json(folder / "result.json", result)


def record_classifier(run_dir: Path, name: str, data_dir: str | None) -> None:
    """Trains the classifiers of a run that is recorded already, and keeps the rest of its result."""
    path = RESULTS / name / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    run = open_run(run_dir, **({} if data_dir is None else {"data_dir": data_dir}))
    write_json(path, result | {"augmentation": augmentation(run)})


def augmentation(run: Run) -> dict[str, Any]:
    """Errors of a classifier with and without generated images; their own commit and date."""
    env = environment(device="cpu", threads=torch.get_num_threads(), steady_malloc=False)
    compared = compare_augmentation(run.model, run.load_intensities(), CLASSIFIER)
    return {**compared, "commit": env["commit"], "date": env["date"]}


def importance(model: Any, data: ImageData) -> dict[str, Any]:
    """The estimate of the log-likelihood from IMPORTANCE_SAMPLES, of IMPORTANCE_IMAGES test images."""
    score = ImportanceScore(model, IMPORTANCE_SAMPLES)
    split = spread(data.test, IMPORTANCE_IMAGES)
    estimate = evaluate(model, split, score=score)
    return {
        **asdict(estimate),
        "nats": estimate.nats,
        "interval": estimate.interval,
        "samples": IMPORTANCE_SAMPLES,
        "sampling_error": score.standard_error(Processes.alone("cpu")),
        "elbo": evaluate(model, split, score=validation_score(model)).nats,
    }


def neighbours(model: Any, data: ImageData) -> dict[int, float]:
    """Errors of the k nearest training and validation images in latent space, on the test images."""
    known = [mean_codes(model, split) for split in (data.train, data.validation)]
    labels = [split.labels for split in (data.train, data.validation) if split.labels is not None]
    asked, truth = mean_codes(model, data.test), data.test.labels
    assert truth is not None
    return knn_errors(torch.cat(known), torch.cat(labels), asked, truth)


def draw(model: Any, data: ImageData, folder: Path, seed: int) -> None:
    """samples.png: 64 images.

    Of an autoregressive model also completions.png: test images, their upper halves, three completions;
    of one with a latent code reconstructions.png, neighbours.png, interpolations.png and latent-map.png.
    """
    half = model.image_shape[1] // 2
    drawing = Drawing(model, seed=seed)
    save_png(folder / "samples.png", image_grid(drawing.images(range(64)), drawing.levels, 8))
    if hasattr(model, "reconstruct"):
        draw_pictures(folder, model, data, mean_codes(model, data.train), mean_codes(model, data.test))
        return
    if half < 1:
        return
    given = data.test.images[:COMPLETED]
    shown = given.clone()
    shown[:, :, half:] = 0
    drawing = Drawing(model, seed=seed, given=data.test, given_rows=half)
    count = len(data.test)
    ways = [drawing.images(range(k * count, k * count + COMPLETED)) for k in range(3)]
    save_png(
        folder / "completions.png", image_grid(torch.cat([given, shown, *ways]), model.levels, COMPLETED)
    )


def page() -> str:
    """docs/recipes.md, from recipes/results/ alone."""
    parts = [
        "# What the recipes gave\n\n"
        "Made by `python recipes/record.py` from `recipes/results/`; each file of `recipes/` says how "
        "to run it again. Times are of training steps alone, on the machine named.\n"
    ]
    for file in sorted(RESULTS.glob("*/result.json")):
        result, name = json.loads(file.read_text(encoding="utf-8")), file.parent.name
        test, plain, env = result["test"], result["independent_pixels"], result["env"]
        low, high = test["interval"]
        where = f"../recipes/results/{name}"
        parts.append(
            f"## {name}\n\n`{result['command']}`\n\n"
            f"{env['cpu']}, {env['threads']} threads, torch {env['torch']}, commit {env['commit']}, "
            f"{env['date']}.\n\n"
            f"| | |\n|---|---|\n"
            f"| parameters | {result['parameters']:,} |\n"
            f"| training | {result['training_minutes']:.1f} minutes, {result['steps']:,} steps, "
            f"{result['epochs']:.2f} epochs |\n"
            f"| test, {test['count']:,} images{', ELBO' if 'importance' in result else ''} | "
            f"{test['mean']:.4f} {test['unit']} "
            f"(95 % interval {low:.4f} to {high:.4f}), {test['nats']:.2f} nats an image |\n"
            f"{_of_latent_models(result)}"
            f"| independent pixels | {plain['mean']:.4f} {plain['unit']}, {plain['nats']:.2f} nats |\n\n"
            f"![training and validation loss]({where}/curve.png)\n\n"
            f"![64 samples, not selected]({where}/samples.png)\n\n"
            + "\n".join(
                f"{text}:\n\n![{picture}]({where}/{picture}.png)\n"
                for picture, text in PICTURES.items()
                if (file.parent / f"{picture}.png").exists()
            )
        )
    return "\n".join(parts)


def _of_latent_models(result: dict[str, Any]) -> str:
    """Rows of the importance-sampled likelihood and of nearest neighbours; empty for other models."""
    rows = ""
    if "importance" in result:
        found = result["importance"]
        low, high = found["interval"]
        rows += (
            f"| importance-sampled, {found['samples']:,} samples, {found['count']:,} test images | "
            f"{found['nats']:.2f} nats an image (95 % interval {low:.2f} to {high:.2f}; standard error "
            f"of one estimate {found['sampling_error']:.2f}); their ELBO {found['elbo']:.2f} |\n"
        )
    if "knn_errors" in result:
        errors = ", ".join(f"{100 * error:.2f} (k={k})" for k, error in result["knn_errors"].items())
        rows += f"| error of nearest neighbours in latent space, % | {errors} |\n"
    if "augmentation" in result:
        found = result["augmentation"]
        settings = found["settings"]
        rows += (
            f"| classifier, {settings['hidden']} x 2 units, {settings['epochs']} epochs | "
            f"{100 * found['error']:.2f} % wrong, with generated images "
            f"{100 * found['error_augmented']:.2f} % |\n"
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run")
    parser.add_argument("--name", help="of the recipe (default: the run's folder)")
    parser.add_argument("--command", help="the command that made the run")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--classifier", action="store_true", help="only train the classifiers anew")
    parser.add_argument("--page", action="store_true", help="only write docs/recipes.md")
    parser.add_argument("--check", action="store_true", help="only compare docs/recipes.md")
    options = parser.parse_args()
    if options.check:
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE} is not current: run python recipes/record.py --page", file=sys.stderr)
        return 1
    if options.classifier and options.run is not None:
        record_classifier(options.run, options.name or options.run.name, options.data_dir)
    elif not options.page:
        if options.run is None or options.command is None:
            parser.error("a run and --command are needed, a run and --classifier, or --page, or --check")
        record(options.run, options.name or options.run.name, options.command, options.data_dir)
    write_atomically(PAGE, page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
