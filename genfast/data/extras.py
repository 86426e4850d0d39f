"""Importing the libraries that the core of genfast does not depend on."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str = "train") -> Any:
    """Import `module`, or raise `ModuleNotFoundError` naming the extra that installs it.

    >>> require("json").dumps([1])
    '[1]'
    >>> require("no_such_library")
    Traceback (most recent call last):
    ...
    ModuleNotFoundError: no_such_library is not installed: pip install "genfast[train]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != root:
            raise  # the library is there, but lacks something of its own
        message = f'{root} is not installed: pip install "genfast[{extra}]"'
        raise ModuleNotFoundError(message, name=error.name) from error
