"""`genfast train MODEL`: a new run, or one that goes on."""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from genfast.cli.exit_codes import INTERRUPTED


def run(out: Path | None, resume: bool, **settings: Any) -> int:
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
        return INTERRUPTED
    print(f"run: {out}")
    return 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of `TrainConfig`; only those given are passed on."""
    from genfast.training.config import TrainConfig

    parser.set_defaults(command=run)
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder (runs/MODEL-DATA)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    hints = get_type_hints(TrainConfig)
    for setting in fields(TrainConfig):
        assert setting.default is not MISSING
        help = setting.metadata["help"]
        if setting.name == "model":
            parser.add_argument("model", help=f"{help}: gated-pixelcnn")
            continue
        flag = "--" + setting.name.replace("_", "-")
        kinds = getattr(hints[setting.name], "__args__", (hints[setting.name],))
        if kinds == (bool,):
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=help)
            continue
        if setting.default is not None:
            help = f"{help} ({setting.default})"
        metavar = {int: "N", float: "X", str: "TEXT"}[kinds[0]]
        parser.add_argument(flag, type=kinds[0], default=argparse.SUPPRESS, help=help, metavar=metavar)
