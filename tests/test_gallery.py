"""The gallery of `genfast demo --all`: what it keeps, what it says, that a check that fails is seen."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from genfast.cli import main
from genfast.gallery import EXHIBITS, Exhibit, Finding, hang, make_gallery
from genfast.gallery.exhibit import PICTURE
from genfast.training import trainer


def exhibit(key: str, *, passed: bool = True) -> Exhibit:
    """One that takes no time."""

    def make(folder: Path) -> Finding:
        Image.new("L", (4, 4)).save(folder / PICTURE)
        return Finding(f"{key}: 1 < 2", "a sum & a <bound>", passed, "what it shows")

    return Exhibit(key, f"The {key}", "a paper", make)


def test_the_page_shows_every_exhibit(tmp_path: Path) -> None:
    assert make_gallery(tmp_path, exhibits=[exhibit("one"), exhibit("two", passed=False)]) == ["two"]
    page = (tmp_path / "index.html").read_text()
    texts = ("The one", "The two", "one: 1 &lt; 2", "a sum &amp; a &lt;bound&gt;", "1 of 2 checks hold")
    for text in texts:
        assert text in page
    assert page.count("Does not hold") == 1
    assert page.count(f'src="one/{PICTURE}"') == 1
    assert "http" not in page  # nothing is fetched


def test_one_exhibit_made_anew_keeps_the_others(tmp_path: Path) -> None:
    exhibits = [exhibit("one"), exhibit("two")]
    make_gallery(tmp_path, exhibits=exhibits)
    assert make_gallery(tmp_path, ["two"], [exhibits[0], exhibit("two", passed=False)]) == ["two"]
    page = (tmp_path / "index.html").read_text()
    assert "The one" in page
    assert "1 of 2 checks hold" in page


def test_an_exhibit_that_stops_leaves_nothing_old(tmp_path: Path) -> None:
    """What it showed before is not shown beside a picture that may be new."""
    make_gallery(tmp_path, exhibits=[exhibit("one"), exhibit("two")])

    def stop(folder: Path) -> Finding:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_gallery(tmp_path, exhibits=[replace(exhibit("one"), make=stop)])
    make_gallery(tmp_path, ["two"], [exhibit("one"), exhibit("two")])
    assert "The one" not in (tmp_path / "index.html").read_text()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--only", "nothing", "--out", str(tmp_path)]) == 2
    assert "'nothing'" in capsys.readouterr().err
    failing = [exhibit("one", passed=False)]
    monkeypatch.setattr(hang.make_gallery, "__defaults__", ((), failing))
    assert main(["demo", "--only", "one", "--out", str(tmp_path)]) == 1
    assert "do not hold: one" in capsys.readouterr().err


def test_keys_are_names_of_folders() -> None:
    keys = [exhibit.key for exhibit in EXHIBITS]
    assert len(set(keys)) == len(keys)
    assert all(key.replace("-", "").isalnum() for key in keys)


@pytest.mark.slow
@pytest.mark.parametrize("shown", EXHIBITS, ids=lambda exhibit: exhibit.key)
def test_every_check_holds(shown: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The minutes of a run are the processor's: on a busy machine it is trained as much as on any."""
    clock = SimpleNamespace(monotonic=time.process_time, perf_counter=time.perf_counter)
    monkeypatch.setattr(trainer, "time", clock)
    finding = shown.make(tmp_path)
    assert finding.passed, finding
    assert (tmp_path / PICTURE).stat().st_size > 1000
