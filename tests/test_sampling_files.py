"""`genfast sample`: grids, archives and folders, whole or not at all, in a stream."""

from __future__ import annotations

import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import contents, sample, small
from PIL import Image

from genfast import cli
from genfast.data import load
from genfast.training import Trainer, open_run
from genfast.training.files import open_atomically
from genfast.training.images import to_bytes
from genfast.training.sample_files import MAX_GRID, open_folder, save_files, save_grid, save_npz
from genfast.training.samples import Drawing


@pytest.fixture(scope="module")
def run(whole: Trainer) -> Path:
    """A trained class-conditional run of 8x8 images with two levels."""
    return whole.run_dir


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


# -- grid ------------------------------------------------------------------------------------------


def test_grid_is_decided_by_seed_and_label(run: Path, tmp_path: Path, capsys: Any) -> None:
    for name, flags in (("a", []), ("b", []), ("c", ["--seed", "1"]), ("d", ["--label", "3"])):
        sample(run, tmp_path / f"{name}.png", *flags)
    a, b, c, d = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert a == b
    assert a not in (c, d)
    assert pixels(tmp_path / "a.png").shape == ((2 * 9 + 1) * 6, (10 * 9 + 1) * 6)  # a column a class
    assert pixels(tmp_path / "d.png").shape == ((3 * 9 + 1) * 6, (4 * 9 + 1) * 6)
    assert f"12 samples: {tmp_path / 'd.png'}\n" in capsys.readouterr().out


def test_temperature_reaches_the_model(run: Path, tmp_path: Path) -> None:
    cold, warm = tmp_path / "cold.npz", tmp_path / "warm.npz"
    for out, temperature in ((cold, "1e-6"), (warm, "1")):
        sample(run, out, "--temperature", temperature, "--label", "0", n=3)
    images = np.load(cold)["images"]
    assert (images[0] == images[1]).all()  # next to zero, every image is the likeliest
    images = np.load(warm)["images"]
    assert (images[0] != images[1]).any()


def test_a_grid_has_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1,025 images .* \(at most 1,024\): .*\.npz"):
        save_grid(tmp_path / "a.png", small(), range(MAX_GRID + 1), [])


# -- archive ---------------------------------------------------------------------------------------


def test_archive_holds_what_the_model_draws(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "a.npz", "--seed", "5", n=40)
    with np.load(tmp_path / "a.npz") as archive:
        assert set(archive.files) == {"images", "levels", "labels"}
        images, levels, labels = (archive[name] for name in ("images", "levels", "labels"))
    assert (images.dtype, images.shape) == (np.uint8, (40, 8, 8, 1))
    assert (levels.dtype, levels.shape, levels) == (np.int64, (), 2)
    assert (labels.dtype, labels.tolist()) == (np.int64, [i % 10 for i in range(40)])
    expected = open_run(run).model.sample(40, seed=5, labels=torch.from_numpy(labels))
    assert (images == 255 * expected.permute(0, 2, 3, 1).numpy()).all()
    data = load(tmp_path / "a.npz", levels=2)  # it is a data set of genfast's own
    assert data.num_classes == 10
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 40


def test_archive_of_colour_images_without_classes(tmp_path: Path) -> None:
    drawing = small((3, 4, 2))
    save_npz(tmp_path / "a.npz", drawing, range(3), drawing.batches([range(3)], 2))
    with np.load(tmp_path / "a.npz") as archive:
        assert set(archive.files) == {"images", "levels"}
        expected = to_bytes(drawing.images(range(3)), 3).permute(0, 2, 3, 1).numpy()
        assert (archive["images"] == expected).all()


@pytest.mark.parametrize("levels", [2, 3, 17, 100, 200, 255, 256])
def test_levels_can_be_had_back(levels: int) -> None:
    every = torch.arange(levels)
    assert ((to_bytes(every, levels) * ((levels - 1) / 255)).round() == every).all()


def test_archive_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def fails(drawing: Drawing) -> Iterator[tuple[range, torch.Tensor]]:
        yield range(2), drawing.images(range(2))
        raise RuntimeError("broken off")

    path = tmp_path / "a.npz"
    path.write_text("older")
    with pytest.raises(RuntimeError, match="broken off"):
        save_npz(path, small(), range(4), fails(small()))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.npz": "older"}


def test_images_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are written: at most the batch before is still there when one is drawn."""
    drawing = small()
    drawn: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def draw(n: int, **_: Any) -> torch.Tensor:
        alive.append(sum(reference() is not None for reference in drawn))
        images = torch.ones(n, 1, 4, 4, dtype=torch.uint8)
        drawn.append(weakref.ref(images))
        return images

    monkeypatch.setattr(drawing.model, "sample", draw)
    for out in ("a.npz", "files"):
        drawn.clear()
        batches = drawing.batches([range(60)], 3)
        if out == "files":
            save_files(tmp_path / out, drawing, batches)
        else:
            save_npz(tmp_path / out, drawing, range(60), batches)
    assert len(alive) == 40
    assert max(alive) <= 1
    assert np.load(tmp_path / "a.npz")["images"].shape == (60, 4, 4, 1)


def test_archive_members_may_be_larger_than_4_gib(tmp_path: Path) -> None:
    """Their entries have the zip64 field, which cannot be added when the size is known."""
    drawing = small()
    save_npz(tmp_path / "a.npz", drawing, range(1), drawing.batches([range(1)], 1))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        info = archive.getinfo("images.npy")
    with (tmp_path / "a.npz").open("rb") as file:
        file.seek(info.header_offset)
        assert int.from_bytes(file.read(30)[28:30], "little") >= 20  # length of the extra field


# -- folder ----------------------------------------------------------------------------------------


def test_files_are_named_by_their_number(run: Path, tmp_path: Path) -> None:
    sample(run, tmp_path / "a.npz", n=7)
    sample(run, f"{tmp_path}/files/", "--start", "2", n=5)
    names = {f"{number:08d}.png" for number in range(2, 7)}
    assert {file.name for file in (tmp_path / "files").iterdir()} == {*names, "samples.json"}
    images = np.load(tmp_path / "a.npz")["images"]
    for number in range(2, 7):
        assert (pixels(tmp_path / f"files/{number:08d}.png") == images[number, :, :, 0]).all()


def test_colour_files(tmp_path: Path) -> None:
    drawing = small((3, 4, 2))
    save_files(tmp_path, drawing, drawing.batches([range(2)], 2))
    expected = to_bytes(drawing.images(range(2)), 3).permute(0, 2, 3, 1).numpy()
    assert (pixels(tmp_path / "00000001.png") == expected[1]).all()


def test_resuming_draws_what_is_missing_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sample(run, tmp_path / "whole", n=30)
    folder = tmp_path / "files"
    sample(run, folder, n=20)
    (folder / "00000004.png").unlink()
    (folder / ".00000005.png.x.tmp").touch()  # as a kill -9 leaves it
    drawn: list[int] = []
    images = Drawing.images

    def watched(self: Drawing, numbers: range) -> torch.Tensor:
        drawn.extend(numbers)
        return images(self, numbers)

    monkeypatch.setattr(Drawing, "images", watched)
    capsys.readouterr()
    sample(run, folder, "--resume", "--batch-size", "3", n=30)
    assert capsys.readouterr().out == f"30 samples (19 of them were there): {folder}\n"
    assert drawn == [4, *range(20, 30)]
    (folder / ".00000005.png.x.tmp").unlink()
    assert contents(folder) == contents(tmp_path / "whole")
    drawn.clear()
    sample(run, folder, "--resume", n=30)
    assert drawn == []


def test_a_folder_of_other_samples_is_refused(tmp_path: Path) -> None:
    drawing = small(seed=1)
    assert open_folder(tmp_path, drawing, range(3)) == [range(3)]
    assert open_folder(tmp_path, drawing, range(1, 3), resume=True) == [range(1, 3)]
    with pytest.raises(FileExistsError, match=r"holds samples already: .* --resume"):
        open_folder(tmp_path, drawing, range(3))
    with pytest.raises(ValueError, match="their seed is 1, not 2; choose another --out"):
        open_folder(tmp_path, small(seed=2), range(3), resume=True)
    with torch.no_grad():
        next(drawing.model.parameters()).add_(1)  # trained on
    with pytest.raises(ValueError, match="their weights_crc32 is"):
        open_folder(tmp_path, drawing, range(3), resume=True)
    (tmp_path / "samples.json").write_text("{")
    with pytest.raises(ValueError, match=r"samples.json: damaged"):
        open_folder(tmp_path, drawing, range(3), resume=True)
    (tmp_path / "samples.json").write_text("[]")
    with pytest.raises(ValueError, match=r"samples.json: damaged"):
        open_folder(tmp_path, drawing, range(3), resume=True)


def test_a_folder_of_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty and holds no samples"):
        open_folder(tmp_path, small(), range(3), resume=True)


# -- failures --------------------------------------------------------------------------------------


def test_an_unwritable_place_shows_before_anything_is_drawn(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(Drawing, "images", lambda *_: pytest.fail("drew before it looked"))
    for out in ("a.png", "a.npz", "a/"):
        assert cli.main(["sample", str(run), "--out", f"{tmp_path}/file/{out}"]) == 2
        assert "cannot write: Not a directory" in capsys.readouterr().err


def test_a_stream_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open_atomically(path) as file:
        file.write(b"first")

    def interrupted() -> None:
        with open_atomically(path) as file:
            file.write(b"second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == {"a": b"first"}
