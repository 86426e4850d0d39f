"""Translation models on folders of pictures, with pairs and without, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genfast import cli
from genfast.training import open_run

COMMON = ["--patch-layers=1", "--width=4", "--batch-size=4", "--max-steps=2", "--samples=3"]


def write(folder: Path, count: int, size: tuple[int, int], mode: str) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(mode))
    for number in range(count):
        values = rng.integers(0, 256, (*size[::-1], *([3] if mode == "RGB" else [])), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")


def train_and_sample(run: Path, model: str, *arguments: str) -> tuple[int, ...]:
    """-> the shape of five translations."""
    assert cli.main(["train", model, *COMMON, *arguments, f"--out={run}"]) == 0
    assert len(list((run / "samples").glob("*.png"))) == 1
    out = run.parent / "made.npz"
    assert cli.main(["sample", str(run), "-n", "5", f"--out={out}"]) == 0
    with np.load(out) as archive:
        images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = archive["images"]
    return images.shape


def test_pix2pix_takes_folders_of_pairs(tmp_path: Path) -> None:
    write(tmp_path / "data/A", 14, (16, 16), "L")
    write(tmp_path / "data/B", 14, (16, 16), "RGB")
    shape = train_and_sample(tmp_path / "run", "pix2pix", f"--data={tmp_path / 'data'}", "--flip")
    assert shape == (5, 16, 16, 3)
    assert open_run(tmp_path / "run").model.config["input_channels"] == 1


def test_pix2pix_takes_pictures_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "data", 14, (32, 16), "RGB")
    arguments = (f"--data={tmp_path / 'data'}", "--domains=side-by-side", "--precision=bf16")
    assert train_and_sample(tmp_path / "run", "pix2pix", *arguments) == (5, 16, 16, 3)


def test_cyclegan_takes_folders_without_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data/A", 14, (8, 8), "RGB")
    write(tmp_path / "data/B", 20, (8, 8), "RGB")
    arguments = (f"--data={tmp_path / 'data'}", "--blocks=1")
    assert train_and_sample(tmp_path / "run", "cyclegan", *arguments) == (5, 8, 8, 3)
    capsys.readouterr()
    assert cli.main(["train", "dcgan", "--domains=edges", f"--out={tmp_path / 'x'}"]) == 2
    assert "domains: must be left out, dcgan takes single images" in capsys.readouterr().err
    assert cli.main(["sample", str(tmp_path / "run"), "--given-rows=2"]) == 2
    assert "--given-rows: must be left out" in capsys.readouterr().err
