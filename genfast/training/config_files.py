"""Settings in TOML files: those of a run at the top level, the model's in the table `[model]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from genfast.data.extras import require
from genfast.training.config import TrainConfig
from genfast.training.files import write_atomically
from genfast.training.settings import ConfigError

#: Name of the settings in a run's folder.
CONFIG = "config.toml"


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a TOML file, checked: what `TrainConfig.from_dict` takes.

    Raises `ConfigError` naming the file and the setting, and `OSError`.
    """
    path = Path(path)
    tomllib = require("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
        TrainConfig.from_dict(settings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file (it is not UTF-8)") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not a TOML file of settings (nested too deep)") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return settings


def write_config(path: Path, config: TrainConfig) -> None:
    """Write settings as TOML, atomically; TOML has no null, so what is None is left out."""
    settings = {name: value for name, value in config.to_dict().items() if value is not None}
    own = {name: value for name, value in settings["model"].items() if value is not None}
    write_atomically(path, require("tomli_w").dumps({**settings, "model": own}))


def merged(settings: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """`settings` with `flags` in their place; in the table of the model, one by one.

    Raises `ConfigError` if the two are of different models.

    >>> merged({"lr": 0.1, "model": {"name": "a", "layers": 3}}, {"model": {"layers": 4}})
    {'lr': 0.1, 'model': {'name': 'a', 'layers': 4}}
    """
    file, own = settings.get("model", {}), flags.get("model", {})
    if "name" in file and own.get("name", file["name"]) != file["name"]:
        raise ConfigError(f"model: the file is for {file['name']}, got {own['name']}")
    table = {**file, **own}
    return {**settings, **flags, **({"model": table} if table else {})}
