"""`genfast demo`: its folder, its page, and that it fails when the model has not learned."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genfast.training import CHECKPOINT, TrainingError, demo
from genfast.training.report import render

TINY = replace(
    demo.DEMO_CONFIG,
    model_settings={"channels": 4, "layers": 2},
    epochs=1,
    batch_size=300,
    samples=10,
)
ROW = {
    "op": "gated_activation",
    "variant": "a < b & c",
    "dtype": "float32",
    "shape": [2, 4, 8, 8],
    "direction": "fwd",
    "median_us": 12.5,
    "baseline": {"eager": 50.0, "compile": None},
}


def benchmark(arguments: list[str]) -> int:
    """In place of the benchmarks: writes a result of one row and a plot."""
    assert arguments[0] == "--quick"
    files = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    Path(files["--json"]).write_text(json.dumps({"schema": 1, "env": {}, "rows": [ROW]}))
    Image.new("L", (4, 4)).save(files["--plot"])
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of a tiny model, with a mark that it can reach."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "REQUIRED_IMPROVEMENT", -10.0)
        assert demo.run_demo(out, benchmark, TINY)
    return out


class Page(HTMLParser):
    """The links of a page and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_demo_leaves_pictures_and_a_page_that_stands_alone(folder: Path) -> None:
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    pictures = {"samples.png", "real.png", "completions.png", "curve.png", "benchmarks.png"}
    assert set(page.links) == {*pictures, "benchmarks.json"}
    for name in pictures:
        with Image.open(folder / name) as picture:
            picture.load()
    assert not re.search(r"https?:|//|@import|url\(", text)
    assert 'name="viewport"' in text
    assert (folder / "run" / CHECKPOINT).exists()


def test_page_shows_what_was_measured(folder: Path) -> None:
    figures = json.loads((folder / "results.json").read_text())
    text = (folder / "index.html").read_text()
    for name in ("test", "independent_pixels", "independent_pixels_by_class"):
        assert f"{figures[name]['bits_per_dim']:.4f}" in text
    expected = 1 - figures["test"]["bits_per_dim"] / figures["independent_pixels"]["bits_per_dim"]
    assert figures["improvement"] == pytest.approx(expected)
    assert figures["steps"] == 4
    assert figures["environment"]["torch"] in text
    assert "a &lt; b &amp; c, 2&times;4&times;8&times;8, float32, fwd" in text
    assert '<td class="n">12.5</td><td class="n">4.00&times;</td><td class="n">&ndash;</td>' in text


def test_pictures_have_a_row_a_digit(folder: Path) -> None:
    sizes = {}
    for name in ("real", "samples", "completions"):
        with Image.open(folder / f"{name}.png") as picture:
            sizes[name] = picture.size
    side = (10 * 9 + 1) * 6
    assert sizes["real"] == sizes["samples"] == (side, side)
    assert sizes["completions"] == (side, (6 * 9 + 1) * 6)  # given, half, four completions


def test_completions_keep_the_given_half(folder: Path) -> None:
    with Image.open(folder / "completions.png") as picture:
        cells = [
            [picture.crop((6 + 54 * c, 6 + 54 * r, 54 + 54 * c, 54 + 54 * r)) for c in range(10)]
            for r in range(6)
        ]
    upper, lower = (0, 0, 48, 24), (0, 24, 48, 48)
    for column in range(10):
        real = cells[0][column]
        for row in range(1, 6):
            assert cells[row][column].crop(upper).tobytes() == real.crop(upper).tobytes()
        ways = {cells[row][column].crop(lower).tobytes() for row in range(2, 6)}
        assert len(ways) > 1


def test_demo_fails_when_the_model_has_not_learned(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("of an older run")
    with pytest.raises(TrainingError, match="20% are required"):
        demo.run_demo(tmp_path, benchmark, TINY)
    text = (tmp_path / "index.html").read_text()
    assert "the result is not below that mark" in " ".join(text.split())


def test_demo_fails_when_the_benchmarks_do(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("of an older run")
    with pytest.raises(TrainingError, match="benchmarks of the demo failed"):
        demo.run_demo(tmp_path, lambda _: 1, TINY)
    assert not (tmp_path / "index.html").exists()


def test_demo_can_be_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "REQUIRED_IMPROVEMENT", -10.0)
    before = json.loads((folder / "results.json").read_text())
    assert demo.run_demo(folder, benchmark, TINY)
    after = json.loads((folder / "results.json").read_text())
    assert after["test"] == before["test"]


def test_page_escapes_what_it_is_given(folder: Path) -> None:
    figures: dict[str, Any] = json.loads((folder / "results.json").read_text())
    figures["environment"]["system"] = "<script>"
    text = render(figures, {"rows": []})
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
