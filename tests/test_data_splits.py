"""Splits: fixed for ever, whatever the file system and the options, and no image on two sides."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import pixels, write_cifar, write_pictures
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genfast.data import DataError, ImageData, Split, hold_out, load, three_way
from genfast.data.splits import hold_out_indices, joined_groups


def sides(data: ImageData) -> list[set[bytes]]:
    """The different images of each split."""
    return [
        {image.numpy().tobytes() for image in split.images}
        for split in (data.train, data.validation, data.test)
    ]


def assert_no_leak(data: ImageData) -> None:
    train, validation, test = sides(data)
    assert not train & validation
    assert not train & test
    assert not validation & test


def total(data: ImageData) -> int:
    return len(data.train) + len(data.validation) + len(data.test)


# -- the rule itself -------------------------------------------------------------------------------


def test_without_images_alike_the_end_of_a_fixed_shuffle_is_held_out() -> None:
    rest, held = hold_out_indices(range(60), 10)
    order = np.random.RandomState(0).permutation(60)
    assert rest.tolist() == order[:50].tolist()
    assert held.tolist() == order[50:].tolist()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 30))
def test_groups_stay_whole_and_nothing_is_lost(groups: list[int], held_count: int) -> None:
    try:
        rest, held = hold_out_indices(groups, held_count)
    except DataError:
        # Only where no group fits, or all that there is would be held out.
        sizes = [groups.count(group) for group in set(groups)]
        assert min(sizes) > held_count or held_count >= min(len(groups), sum(sizes))
        return
    assert sorted(rest.tolist() + held.tolist()) == list(range(len(groups)))
    assert not {groups[i] for i in rest.tolist()} & {groups[i] for i in held.tolist()}
    assert 0 < len(held) <= held_count
    # Nothing more would have fitted.
    smallest = min((groups.count(groups[i]) for i in rest.tolist()), default=99)
    assert len(held) + smallest > held_count or len(rest) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_joined_groups_join_what_either_joins(pairs: list[tuple[int, int]]) -> None:
    first = [[p[side] for p in pairs].index(p[side]) for side in (0, 1) for p in pairs]
    one, other = first[: len(pairs)], first[len(pairs) :]
    joined = joined_groups(one, other)
    # The transitive closure, by brute force.
    linked = np.array([[a[0] == b[0] or a[1] == b[1] for b in pairs] for a in pairs])
    for _ in pairs:
        linked = linked @ linked
    expected = [[i for i in range(len(pairs)) if linked[i, j]] for j in range(len(pairs))]
    found = [[i for i in range(len(pairs)) if joined[i] == joined[j]] for j in range(len(pairs))]
    assert found == expected


def test_hold_out_and_three_way_keep_images_alike_together() -> None:
    images = torch.arange(20, dtype=torch.uint8).repeat_interleave(3).reshape(60, 1, 1, 1)
    split = Split(images, torch.arange(60))
    for parts in (hold_out(split, 6), three_way(split)):
        values = [set(part.images.flatten().tolist()) for part in parts]
        assert sum(map(len, values)) == 20
        assert sum(map(len, parts)) == 60
        assert sorted(torch.cat([part.labels for part in parts]).tolist()) == list(range(60))


# -- npz and folders -------------------------------------------------------------------------------


def with_doubles(*shape: int) -> np.ndarray:
    """60 images of which 20 appear again, one of them nine times, in no order."""
    arrays = pixels(60, *shape)
    arrays[40:] = arrays[:20]
    arrays[30:38] = arrays[5]
    return arrays[np.random.RandomState(1).permutation(60)]


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("own_test", [False, True])
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_images_alike_come_to_the_same_side(
    tmp_path: Path, form: str, own_test: bool, levels: int | None
) -> None:
    arrays, test = with_doubles(6, 5), pixels(7, 6, 5, seed=9)
    path = tmp_path / "a.npz"
    if form == "npz":
        np.savez(
            path, **({"train_images": arrays, "test_images": test} if own_test else {"images": arrays})
        )
    else:
        path = tmp_path / "pictures"
        write_pictures(path / "train" if own_test else path, arrays)
        if own_test:
            write_pictures(path / "test", test)
    data = load(path, levels=levels)
    assert_no_leak(data)
    assert total(data) == 60 + 7 * own_test
    assert len(data.validation) == 10
    assert len(data.test) == (7 if own_test else 10)


def test_the_same_picture_in_two_file_formats_is_the_same(tmp_path: Path) -> None:
    arrays = pixels(30, 6, 5)
    write_pictures(tmp_path, arrays)
    write_pictures(tmp_path, arrays, suffix=".bmp")
    for number, array in enumerate(arrays):  # and grey pictures stored in colour
        Image.fromarray(array).convert("RGB").save(tmp_path / f"{number:02}c.png")
    data = load(tmp_path)
    assert_no_leak(data)
    assert (total(data), len(data.test), data.image_shape) == (90, 15, (3, 6, 5))


def test_cifar10_keeps_images_alike_together(tmp_path: Path) -> None:
    write_cifar(tmp_path, "bin")
    folder = tmp_path / "cifar-10-batches-bin"
    for number in range(2, 6):
        (folder / f"data_batch_{number}.bin").write_bytes((folder / "data_batch_1.bin").read_bytes())
    with pytest.raises(DataError, match="too few of the 20 images differ"):
        load("cifar10", tmp_path)  # each of four images five times, two are wanted
    half = (folder / "data_batch_1.bin").read_bytes()[: 2 * 3073]
    (folder / "data_batch_2.bin").write_bytes(half + bytes([1] * 2 * 3073))
    data = load("cifar10", tmp_path)
    assert_no_leak(data)
    assert len(data.validation) == 2


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_test_images_among_training_images_are_warned_of(tmp_path: Path, form: str) -> None:
    arrays = pixels(12, 6, 5)
    path = tmp_path / "a.npz"
    if form == "npz":
        np.savez(path, train_images=arrays, test_images=arrays[:2], val_images=arrays[:3])
    else:
        path = tmp_path / "pictures"
        for name, count in (("train", 12), ("test", 2), ("val", 3)):
            write_pictures(path / name, arrays[:count])
    with (
        pytest.warns(UserWarning, match="3 validation images are also training images"),
        pytest.warns(UserWarning, match="2 test images are also training images"),
    ):
        load(path)


def test_options_do_not_move_an_image(tmp_path: Path) -> None:
    """Label i belongs to image i: the labels of each split are the same whatever the options."""
    np.savez(tmp_path / "a.npz", images=with_doubles(8, 8, 3), labels=np.arange(60))
    plain = load(tmp_path / "a.npz")
    for options in (
        {"levels": 2},
        {"image_size": 2},
        {"crop": 1, "levels": 2},
        {"colour": "grey"},
        {"binarise": "dynamic"},
    ):
        data = load(tmp_path / "a.npz", **options)  # type: ignore[arg-type]
        for split in ("train", "validation", "test"):
            assert torch.equal(getattr(data, split).labels, getattr(plain, split).labels)


def test_order_of_the_file_system_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "b", pixels(15, 4, 4))
    write_pictures(tmp_path / "a", pixels(15, 4, 4, seed=1))
    write_pictures(tmp_path, pixels(10, 4, 4, seed=2))
    plain = load(tmp_path)
    rglob = Path.rglob
    for seed in range(3):
        shuffle = np.random.RandomState(seed).permutation
        shuffled = lambda self, pattern, s=shuffle: iter(s(list(rglob(self, pattern))))  # noqa: E731
        monkeypatch.setattr(Path, "rglob", shuffled)
        data = load(tmp_path)
        for split in ("train", "validation", "test"):
            assert torch.equal(getattr(data, split).images, getattr(plain, split).images)


def test_name_of_the_folder_and_its_place_do_not_matter(tmp_path: Path) -> None:
    write_pictures(tmp_path / "one" / "inner", pixels(20, 4, 4))
    write_pictures(tmp_path / "deeper" / "two" / "inner", pixels(20, 4, 4))
    one, two = load(tmp_path / "one"), load(tmp_path / "deeper" / "two")
    assert torch.equal(one.test.images, two.test.images)


def test_accents_are_sorted_alike_however_they_are_stored(tmp_path: Path) -> None:
    """e with an accent is one character on Linux and two on a Mac, before and after f."""
    arrays = pixels(20, 4, 4)
    for folder, accent in (("linux", "\u00e9"), ("mac", "e\u0301")):
        write_pictures(tmp_path / folder, arrays[2:])
        Image.fromarray(arrays[0]).save(tmp_path / folder / f"{accent}.png")
        Image.fromarray(arrays[1]).save(tmp_path / folder / "f.png")
    linux, mac = load(tmp_path / "linux"), load(tmp_path / "mac")
    assert torch.equal(linux.train.images, mac.train.images)


# -- folders with parts and classes ----------------------------------------------------------------


def test_classes_are_the_folders(tmp_path: Path) -> None:
    for seed, (part, count) in enumerate((("train", 12), ("test", 3), ("val", 4))):
        for number, name in enumerate(("bird", "cat")):
            arrays = pixels(count, 4, 4, seed=seed)
            arrays[:, 0, 0] = number
            write_pictures(tmp_path / part / name, arrays)
    data = load(tmp_path)
    assert (data.num_classes, len(data.train), len(data.validation), len(data.test)) == (2, 24, 8, 6)
    for split in (data.train, data.validation, data.test):
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)
    write_pictures(tmp_path / "test" / "dog", pixels(1, 4, 4))
    with pytest.raises(DataError, match=r"dog/00\.png: no class 'dog' among those of the training"):
        load(tmp_path)


def test_loose_pictures_mean_that_folders_are_no_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", pixels(8, 4, 4))
    write_pictures(tmp_path / "b", pixels(8, 4, 4, seed=1))
    assert load(tmp_path).num_classes == 2
    write_pictures(tmp_path, pixels(1, 4, 4, seed=2))
    data = load(tmp_path)
    assert (data.num_classes, data.train.labels) == (0, None)


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_validation_folder_without_a_test_folder_is_the_test_part(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path / "train", pixels(12, 4, 4))
    write_pictures(tmp_path / name, pixels(3, 4, 4, seed=1))
    data = load(tmp_path)
    assert np.array_equal(data.test.images[:, 0].numpy(), pixels(3, 4, 4, seed=1))
    assert (len(data.train), len(data.validation)) == (10, 2)


def test_npz_with_validation_images(tmp_path: Path) -> None:
    parts = {"train_images": pixels(5, 4, 4), "val_images": pixels(3, 4, 4, seed=1)}
    labels = {"train_labels": np.zeros((5, 1), np.uint8), "val_labels": np.ones((3, 1), np.uint8)}
    np.savez(tmp_path / "a.npz", **parts, test_images=pixels(2, 4, 4, seed=2))
    data = load(tmp_path / "a.npz")
    assert np.array_equal(data.validation.images[:, 0].numpy(), parts["val_images"])
    assert (len(data.train), len(data.test)) == (5, 2)
    np.savez(tmp_path / "a.npz", **parts, **labels)
    with pytest.raises(DataError, match="5 images are too few"):
        load(tmp_path / "a.npz")  # without test images, the validation images are those


def test_test_folder_without_a_train_folder_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "test", pixels(12, 4, 4))
    with pytest.raises(DataError, match="has a folder test, but none called train"):
        load(tmp_path)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, pixels(12, 4, 4))
    write_pictures(tmp_path / "__MACOSX", pixels(3, 9, 9))
    write_pictures(tmp_path / ".thumbnails", pixels(3, 9, 9))
    (tmp_path / "._00.png").write_bytes(b"not a picture")
    (tmp_path / "folder.png").mkdir()
    assert total(load(tmp_path)) == 12


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    write_pictures(tmp_path / "pictures", pixels(12, 4, 4))
    assert total(load("~/pictures")) == 12
