"""The command `genfast`: info, bench, train, sample, eval and demo.

A mistake of the user ends as one line on standard error and exit code 2; set GENFAST_DEBUG=1 to
see where it was raised. What a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

_INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command -> its exit code: 0 done, 2 a mistake of the user, 130 interrupted.

    >>> main(["eval", "no/such/run"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # These two read their own flags.
        if arguments[:1] == ["info"]:
            from genfast.info import main as info

            return info(arguments[1:]) or 0
        if arguments[:1] == ["bench"]:
            from genfast.benchmarks.run import main as bench

            return bench(arguments[1:]) or 0
        parsed = vars(_parser().parse_args(arguments))
        command: Callable[..., int] = parsed.pop("command")
        return command(**parsed)
    except KeyboardInterrupt:
        print("genfast: interrupted", file=sys.stderr)
        return _INTERRUPTED
    # All checks of genfast raise ValueError; OSError is the disk, ImportError a missing extra.
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("GENFAST_DEBUG"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print("genfast: error:", " ".join(message.split()), file=sys.stderr)
        return 2


# -- the commands ----------------------------------------------------------------------------------


def _train(out: Path | None, resume: bool, **settings: Any) -> int:
    from genfast.training import TrainConfig, Trainer

    if resume:
        if out is None:
            raise ValueError("--resume needs --out RUN, the folder of the run to go on with")
        trainer = Trainer.resume(out, **settings)
    else:
        config = TrainConfig(**settings)
        out = out or Path("runs") / f"{config.model}-{Path(config.data).stem}"
        trainer = Trainer.start(config, out)
    if not trainer.run():
        print(
            f"genfast: interrupted at step {trainer.step}, saved; "
            f"go on with: genfast train {trainer.config.model} --out {out} --resume",
            file=sys.stderr,
        )
        return _INTERRUPTED
    print(f"run: {out}")
    return 0


def _sample(run: Path, n: int, out: Path, seed: int, temperature: float, label: int | None) -> int:
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


def _eval(run: Path, split: str, data_dir: str | None, batch_size: int, json: Path | None) -> int:
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


def _demo(out: Path) -> int:
    from genfast.benchmarks.run import main as bench
    from genfast.training.demo import run_demo

    return 0 if run_demo(out, bench) else _INTERRUPTED


# -- their flags -----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, instead of the whole usage and then a line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> _Parser:
    parser = _Parser(prog="genfast", description="Fast, exact deep generative models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("info", help="show versions, instruction sets and devices", add_help=False)
    commands.add_parser("bench", help="time the operations against PyTorch", add_help=False)
    _train_flags(commands.add_parser("train", help="train a model"))

    sample = commands.add_parser("sample", help="draw images from a trained model")
    sample.set_defaults(command=_sample)
    sample.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    sample.add_argument("-n", type=int, default=64, help="number of images (64)")
    sample.add_argument("--out", type=Path, default=Path("grid.png"), help="PNG file (grid.png)")
    sample.add_argument("--seed", type=int, default=0, help="seed of the draws (0)")
    sample.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier (1.0)")
    sample.add_argument("--label", type=int, help="only this class, for a conditional model")

    evaluation = commands.add_parser("eval", help="measure bits/dim on held-out images")
    evaluation.set_defaults(command=_eval)
    evaluation.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    evaluation.add_argument("--split", choices=("test", "validation", "train"), default="test")
    evaluation.add_argument("--data-dir", help="folder of the data, if it has moved")
    evaluation.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    evaluation.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")

    demo = commands.add_parser("demo", help="train, sample and benchmark: leaves a report page")
    demo.set_defaults(command=_demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (demo)")
    return parser


def _train_flags(train: argparse.ArgumentParser) -> None:
    """A flag for each field of `TrainConfig`; only those given are passed on."""
    from genfast.training.config import TrainConfig

    train.set_defaults(command=_train)
    train.add_argument("--out", type=Path, metavar="RUN", help="folder (runs/MODEL-DATA)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    hints = get_type_hints(TrainConfig)
    for setting in fields(TrainConfig):
        assert setting.default is not MISSING
        help = setting.metadata["help"]
        if setting.name == "model":
            train.add_argument("model", help=f"{help}: gated-pixelcnn")
            continue
        flag = "--" + setting.name.replace("_", "-")
        kinds = getattr(hints[setting.name], "__args__", (hints[setting.name],))
        if kinds == (bool,):
            train.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=help)
            continue
        if setting.default is not None:
            help = f"{help} ({setting.default})"
        metavar = {int: "N", float: "X", str: "TEXT"}[kinds[0]]
        train.add_argument(flag, type=kinds[0], default=argparse.SUPPRESS, help=help, metavar=metavar)
