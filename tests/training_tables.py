"""The tables of settings in docs/training.md, made from the code that declares them.

`python tests/training_tables.py` writes them, `--check` only says whether they are current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genfast.models import MODELS
from genfast.training.config import run_settings
from genfast.training.settings import Setting, model_settings

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def generated(page: str) -> str:
    """The page with today's tables between its marks."""
    tables = {"run": table(run_settings().values())}
    tables["models"] = "\n\n".join(
        f"`{name}`\n\n{table(model_settings(MODELS[name]).values())}" for name in sorted(MODELS)
    )
    for name, text in tables.items():
        mark = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = mark.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
        assert count == 1, f"{PAGE} has {count} places for {name}"
    return page


def table(settings: Iterable[Setting]) -> str:
    """A row a setting."""
    rows = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    for setting in settings:
        kind = " or ".join(f"`{choice}`" for choice in setting.choices) or setting.kind.__name__
        if setting.range:
            kind = f"{kind}, {setting.range}"
        default = "" if setting.default is None else f"`{str(setting.default).lower()}`"
        rows.append(f"| `{setting.name}` | {kind} | {default} | {setting.help} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    page = PAGE.read_text()
    if arguments == ["--check"]:
        if page == generated(page):
            return 0
        print(f"{PAGE} is not current: run python tests/training_tables.py", file=sys.stderr)
        return 1
    PAGE.write_text(generated(page))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
