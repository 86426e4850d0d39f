"""`genfast train MODEL`: a new run, or one that goes on; under torchrun by several processes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfast.cli.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    from genfast.training.settings import Setting

_OF_MODEL = "model."  # before the names of the model's own settings among the parsed flags


def run(out: Path | None, resume: bool, config: Path | None, **flags: Any) -> int:
    from genfast.training import Processes, TrainConfig, Trainer, read_config
    from genfast.training.config_files import merged

    settings = merged({} if config is None else read_config(config), _nested(flags))
    if resume:
        if out is None:
            raise ValueError("--resume needs --out RUN, the folder of the run to go on with")
        device = settings.get("device") or _device_of(out)
    else:
        if "model" not in settings:
            raise ValueError("MODEL is missing: name it after `train`, or in the file of --config")
        wanted = TrainConfig.from_dict(settings)
        device = wanted.device
        out = out or Path("runs") / f"{wanted.model}-{Path(wanted.data).stem}"
    with Processes.from_environment(device) as processes:
        if resume:
            trainer = Trainer.resume(out, processes=processes, **settings)
        else:
            trainer = Trainer.start(wanted, out, processes=processes)
        finished = trainer.run()
    if processes.is_main and finished:
        print(f"run: {out}")
    elif processes.is_main:
        print(
            f"genfast: interrupted at step {trainer.step}, saved; "
            f"go on with: genfast train {trainer.config.model} --out {out} --resume",
            file=sys.stderr,
        )
    return 0 if finished else INTERRUPTED


def add_flags(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """A flag for each setting of a run and of the model that `arguments` name.

    The model comes first on the line; else the file of --config names it.
    """
    from genfast.models import MODELS
    from genfast.training.config import run_settings
    from genfast.training.settings import model_settings, unknown

    parser.set_defaults(command=run)
    known = ", ".join(sorted(MODELS))
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder (runs/MODEL-DATA)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file of settings; flags go before it"
    )
    name = _named_model(arguments)
    parser.add_argument(
        f"{_OF_MODEL}name",
        nargs="?",
        default=argparse.SUPPRESS,
        metavar="MODEL",
        help=f"which model to train: {known}; `genfast train MODEL --help` lists its settings",
    )
    _add(parser.add_argument_group("settings of the run"), run_settings().values(), "")
    if name is None:
        return
    if name not in MODELS:
        raise unknown(name, MODELS, f"model: unknown {name!r}")
    own = model_settings(MODELS[name])
    _add(parser.add_argument_group(f"settings of {name}"), own.values(), _OF_MODEL)


def _add(parser: Any, settings: Iterable[Setting], prefix: str) -> None:
    """Flags for `settings`; only those that are given appear among the parsed ones."""
    for setting in settings:
        flag = "--" + setting.name.replace("_", "-")
        common: dict[str, Any] = {"dest": prefix + setting.name, "default": argparse.SUPPRESS}
        if setting.kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=setting.help, **common)
            continue
        help = setting.help if setting.default is None else f"{setting.help} ({setting.default})"
        metavar = {int: "N", float: "X", str: "TEXT"}[setting.kind]
        parser.add_argument(
            flag,
            type=_reader(setting),
            choices=setting.choices or None,
            help=help.replace("%", "%%"),
            metavar="|".join(setting.choices) or metavar,
            **common,
        )


def _reader(setting: Setting) -> Callable[[str], Any]:
    """How a flag's text is read: "none" is None where that is a value, to override a file."""
    kind = setting.kind

    def read(text: str) -> Any:
        return None if setting.optional and text == "none" else kind(text)

    read.__name__ = kind.__name__  # argparse says "invalid float value"
    return read


def _named_model(arguments: Sequence[str]) -> str | None:
    """The model that the arguments after `train` name, themselves or by their file."""
    from genfast.training.config_files import read_config

    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    config: Path | None = finder.parse_known_args(arguments)[0].config
    return None if config is None else read_config(config).get("model", {}).get("name")


def _nested(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags as `TrainConfig.from_dict` takes them: the model's own in a table."""
    own = {k.removeprefix(_OF_MODEL): v for k, v in flags.items() if k.startswith(_OF_MODEL)}
    settings = {k: v for k, v in flags.items() if not k.startswith(_OF_MODEL)}
    return {**settings, "model": own} if own else settings


def _device_of(out: Path) -> str:
    """The device that a run was started with: processes are joined before it is opened."""
    from genfast.training.checkpoint import CHECKPOINT, read_checkpoint
    from genfast.training.config import TrainConfig

    return TrainConfig.from_dict(
        read_checkpoint(out / CHECKPOINT, "history.").description["config"]
    ).device
