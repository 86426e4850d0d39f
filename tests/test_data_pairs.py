"""Two domains, in pairs or not: the right partners in the same split, in every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels, write_pictures
from PIL import Image

from genfast.data import DataError, PairedData, load, load_paired, load_unpaired

PARTS = ("train", "validation", "test")


def write_domains(root: Path, layout: str, counts: dict[str, int] | None = None) -> None:
    """Pairs of 6x6: B is A turned upside down. `layout` has places for the part and the domain."""
    for seed, (part, count) in enumerate((counts or {"": 24}).items()):
        arrays = pixels(count, 6, 6, seed=seed)
        for domain, images in (("A", arrays), ("B", arrays[:, ::-1])):
            write_pictures(root / layout.format(part=part, domain=domain), images)


def assert_paired(data: PairedData) -> None:
    for part in PARTS:
        a, b = getattr(data.a, part).images, getattr(data.b, part).images
        assert torch.equal(a.flip(-2), b)
        assert len(a) > 0


LAYOUTS = ["{part}{domain}", "{part}/{domain}", "{domain}/{part}"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_pairs_in_parts(tmp_path: Path, layout: str, parts: tuple[str, ...]) -> None:
    write_domains(tmp_path, layout, {part: 12 if part == "train" else 4 for part in parts})
    data = load_paired(tmp_path)
    assert_paired(data)
    found = [len(getattr(data.a, part)) for part in PARTS]
    assert found == ([12, 4, 4] if len(parts) == 3 else [10, 2, 4])
    assert np.array_equal(data.a.test.images[:, 0].numpy(), pixels(4, 6, 6, seed=len(parts) - 1))


def test_pairs_in_two_folders(tmp_path: Path) -> None:
    write_domains(tmp_path, "{domain}")
    data = load_paired(tmp_path, levels=4, flip=True)
    assert_paired(data)
    assert [len(getattr(data.b, part)) for part in PARTS] == [16, 4, 4]
    assert (data.a.levels, data.b.levels) == (4, 4)


def test_partners_have_the_same_name_whatever_its_suffix(tmp_path: Path) -> None:
    write_domains(tmp_path, "{domain}/inner")
    for path in list((tmp_path / "B" / "inner").iterdir()):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".bmp"))
        path.unlink()
    assert_paired(load_paired(tmp_path))
    Image.new("L", (6, 6)).save(tmp_path / "B" / "inner" / "03.gif")
    with pytest.raises(DataError, match=r"03\.gif: has the same name as 03\.bmp"):
        load_paired(tmp_path)


def test_picture_without_a_partner_is_named(tmp_path: Path) -> None:
    write_domains(tmp_path, "{domain}")
    (tmp_path / "A" / "07.png").unlink()
    with pytest.raises(DataError, match=r"B/07\.png: has no partner in .*A \(1 such pictures\)"):
        load_paired(tmp_path)
    write_domains(tmp_path / "parts", "{part}{domain}", {"train": 12, "test": 3})
    write_pictures(tmp_path / "parts" / "valA", pixels(2, 6, 6))
    with pytest.raises(DataError, match="A and B must have the same parts, found train, validation"):
        load_paired(tmp_path / "parts")


def side_by_side(count: int, seed: int = 0) -> np.ndarray:
    left = pixels(count, 6, 6, 3, seed=seed)
    return np.concatenate([left, left[:, ::-1]], axis=2)


def test_pairs_side_by_side(tmp_path: Path) -> None:
    for seed, (part, count) in enumerate((("train", 12), ("val", 3), ("test", 4))):
        write_pictures(tmp_path / part, side_by_side(count, seed))
    data = load_paired(tmp_path, layout="side-by-side")
    assert_paired(data)
    assert data.a.image_shape == (3, 6, 6)
    left = pixels(4, 6, 6, 3, seed=2).transpose(0, 3, 1, 2)
    assert np.array_equal(data.a.test.images.numpy(), left)
    assert load_paired(tmp_path, layout="side-by-side", image_size=3).b.image_shape == (3, 3, 3)
    write_pictures(tmp_path / "val", pixels(1, 6, 11), start=8)
    with pytest.raises(DataError, match=r"08\.png: a pair side by side must be twice as wide as high"):
        load_paired(tmp_path, layout="side-by-side")


def test_side_by_side_without_parts(tmp_path: Path) -> None:
    write_pictures(tmp_path, side_by_side(24))
    data = load_paired(tmp_path, layout="side-by-side", colour="grey")
    assert data.a.image_shape == (1, 6, 6)
    assert_paired(data)


@pytest.mark.parametrize("domain", ["A", "B"])
def test_pairs_that_share_an_image_come_to_the_same_side(tmp_path: Path, domain: str) -> None:
    """One sketch, several photographs (or the other way round)."""
    write_domains(tmp_path, "{domain}")
    shared = pixels(24, 6, 6, seed=5)
    for number in range(0, 24, 2):
        shared[number + 1] = shared[number]
    write_pictures(tmp_path / domain, shared)
    data = load_paired(tmp_path)
    chosen = data.a if domain == "A" else data.b
    seen = [{i.numpy().tobytes() for i in getattr(chosen, part).images} for part in PARTS]
    assert sum(map(len, seen)) == 12 == len(set.union(*seen))


def test_flips_of_a_pair_go_together(tmp_path: Path) -> None:
    write_domains(tmp_path, "{domain}")
    data = load_paired(tmp_path, flip=True)
    index = torch.arange(16)
    a, b = data.batch("train", index, epoch=3, seed=1)
    assert torch.equal(a.flip(-2), b)
    changed = (a != data.a.train.images).flatten(1).any(1)
    assert 0 < int(changed.sum()) < 16
    assert torch.equal(a[5:6], data.batch("train", index[5:6], epoch=3, seed=1)[0])
    assert torch.equal(data.batch("test", index[:4], epoch=3)[0], data.a.test.images)


# -- unpaired --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpaired_in_parts(tmp_path: Path, layout: str) -> None:
    for seed, (part, domain, count) in enumerate(
        (("train", "A", 12), ("train", "B", 18), ("test", "A", 3), ("test", "B", 5))
    ):
        folder = tmp_path / layout.format(part=part, domain=domain)
        write_pictures(folder, pixels(count, 6, 6, seed=seed), start=seed)
    data = load_unpaired(tmp_path)
    assert [len(getattr(data.a, part)) for part in PARTS] == [10, 2, 3]
    assert [len(getattr(data.b, part)) for part in PARTS] == [15, 3, 5]
    assert np.array_equal(data.b.test.images[:, 0].numpy(), pixels(5, 6, 6, seed=3))


def test_unpaired_in_two_folders(tmp_path: Path) -> None:
    write_pictures(tmp_path / "A", pixels(12, 6, 6))
    write_pictures(tmp_path / "B", pixels(24, 6, 6, 3))
    data = load_unpaired(tmp_path, flip=True)
    assert (data.a.image_shape, data.b.image_shape) == ((1, 6, 6), (3, 6, 6))
    a, b = data.batch("train", torch.arange(8), torch.arange(16), epoch=1)
    assert (a.shape, b.shape) == ((8, 1, 6, 6), (16, 3, 6, 6))
    flipped = [
        (images != domain.train.images[: len(images)]).flatten(1).any(1)[:8]
        for images, domain in ((a, data.a), (b, data.b))
    ]
    assert not torch.equal(*flipped)


# -- what is refused -------------------------------------------------------------------------------


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layout: must be one of folders, side-by-side, got 'both'"):
        load_paired(tmp_path, layout="both")
    with pytest.raises(DataError, match="no such folder"):
        load_paired(tmp_path / "nowhere", layout="side-by-side")
    for function in (load_paired, load_unpaired):
        with pytest.raises(DataError, match="no folder A, trainA, train/A or A/train"):
            function(tmp_path)
    write_pictures(tmp_path / "A", pixels(12, 6, 6))
    write_pictures(tmp_path / "B", pixels(12, 5, 6))
    for function in (load_paired, load_unpaired):
        with pytest.raises(DataError, match=r"A and B differ in size, \(6, 6\) and \(5, 6\)"):
            function(tmp_path)
        assert function(tmp_path, image_size=4).b.image_shape == (1, 4, 4)


def test_load_does_not_take_two_domains_for_classes(tmp_path: Path) -> None:
    write_domains(tmp_path, "{part}{domain}", {"train": 12, "test": 3})
    with pytest.raises(DataError, match="use load_paired or load_unpaired"):
        load(tmp_path)
