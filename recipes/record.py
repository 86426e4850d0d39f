"""Keeps what a recipe gave: figures, curve and pictures of a run, and the page made of them.

    genfast train --config recipes/NAME.toml --data-dir FOLDER --out runs/NAME ...
    python recipes/record.py runs/NAME --name NAME --command "genfast train ..."

writes recipes/results/NAME/{result.json, metrics.csv, curve.png, samples.png, completions.png}, and
docs/recipes.md anew from all of recipes/results/. `--page` only does the latter, `--check` only says
whether the page is current.
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
from genfast.training import evaluate, independent_pixels, open_run
from genfast.training.curves import save_curve
from genfast.training.files import write_atomically, write_json
from genfast.training.history import History
from genfast.training.images import image_grid, save_png
from genfast.training.samples import Drawing

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
COMPLETED = 8  # test images, a column each


def record(run_dir: Path, name: str, command: str, data_dir: str | None) -> None:
    """Evaluates and draws from a run, and writes its folder under recipes/results/."""
    run = open_run(run_dir, **({} if data_dir is None else {"data_dir": data_dir}))
    data, model = run.load_data(), run.model
    history = History.from_tensors(run.checkpoint.part("history"))
    steps_per_epoch = -(-len(data.train) // run.config.batch_size)
    test = evaluate(model, data.test, labels=run.config.conditional)
    plain = independent_pixels(data.train, data.test, data.levels)
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
    write_json(folder / "result.json", result)


def draw(model: Any, data: ImageData, folder: Path, seed: int) -> None:
    """samples.png: 64 images; completions.png: test images, their upper halves, three completions."""
    half = model.image_shape[1] // 2
    images = Drawing(model, seed=seed).images(range(64))
    save_png(folder / "samples.png", image_grid(images, model.levels, 8))
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
            f"| test, {test['count']:,} images | {test['mean']:.4f} {test['unit']} "
            f"(95 % interval {low:.4f} to {high:.4f}), {test['nats']:.2f} nats an image |\n"
            f"| independent pixels | {plain['mean']:.4f} {plain['unit']}, {plain['nats']:.2f} nats |\n\n"
            f"![training and validation loss]({where}/curve.png)\n\n"
            f"![64 samples, not selected]({where}/samples.png)\n\n"
            f"Test images, the upper half that the model is given, three ways in which it goes on:\n\n"
            f"![completions]({where}/completions.png)\n"
        )
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run")
    parser.add_argument("--name", help="of the recipe (default: the run's folder)")
    parser.add_argument("--command", help="the command that made the run")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--page", action="store_true", help="only write docs/recipes.md")
    parser.add_argument("--check", action="store_true", help="only compare docs/recipes.md")
    options = parser.parse_args()
    if options.check:
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE} is not current: run python recipes/record.py --page", file=sys.stderr)
        return 1
    if not options.page:
        if options.run is None or options.command is None:
            parser.error("a run and --command are needed, or --page, or --check")
        record(options.run, options.name or options.run.name, options.command, options.data_dir)
    write_atomically(PAGE, page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
