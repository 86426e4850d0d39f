"""PixelRNN: what each variant sees, and the defects that public scans have shipped with."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from enumeration import dependencies, earlier, reached
from test_pixel_rnn import both, scans, tiny
from torch import Tensor

from genfast.nn import DiagonalBiLSTM, RowLSTM
from genfast.reference import diagonal_lstm, row_lstm

# ---- what is seen --------------------------------------------------------------------------------


def row_field(image_shape: tuple[int, int, int], layers: int) -> Tensor:
    """[pixel, pixel]: L + 3 to the left on its own row; k rows above from k + L + 3 to the left to
    k + 2 to the right.
    """
    _, height, width = image_shape
    place = torch.arange(height * width)
    up = place[:, None] // width - place // width
    right = place % width - place[:, None] % width
    above = (up > 0) & (right <= up + 2) & (right >= -(up + layers + 3))
    return above | (up == 0) & (right < 0) & (right >= -(layers + 3))


def diagonal_field(image_shape: tuple[int, int, int], layers: int) -> Tensor:
    """[pixel, pixel]: all before, but for the last one of the row above.

    The first convolution shows it to nothing on its own row; the row below sees it from three columns
    away, and its neighbours on the left see no more than they do.
    """
    _, height, width = image_shape
    place = torch.arange(height * width)
    up, column = place[:, None] // width - place // width, place[:, None] % width
    hidden = (up == 1) & (place % width == width - 1) & (column + 3 < width - 1)
    return (place < place[:, None]) & ~hidden


FIELDS: dict[str, Callable[[tuple[int, int, int], int], Tensor]] = {
    "row": row_field,
    "diagonal": diagonal_field,
}


@both
@pytest.mark.parametrize(("image_shape", "layers"), [((1, 4, 14), 1), ((1, 4, 14), 2), ((1, 7, 5), 3)])
@pytest.mark.parametrize("skip", [False, True])
def test_receptive_field_is_exactly_the_theoretical_one(variant, image_shape, layers, skip):
    models = [tiny(image_shape, 4, variant, seed, layers=layers, skip=skip) for seed in range(3)]
    expected = FIELDS[variant](image_shape, layers)
    assert torch.equal(reached(models), expected)
    assert not expected[~earlier(models[0])].any()


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_narrow_image_is_seen_whole_by_diagonal_ones(width):
    models = [tiny((1, 6, width), 4, "diagonal", seed, layers=1) for seed in range(3)]
    assert torch.equal(reached(models), earlier(models[0]))


def test_of_the_one_pixel_not_seen_only_the_last_colour_is_not():
    """The blue of the row above's last pixel is decided after everything that shows it to the left."""
    models = [tiny((3, 3, 6), 4, "diagonal", seed) for seed in range(6)]
    missing = earlier(models[0]) & ~reached(models)
    event, value = missing.nonzero(as_tuple=True)
    assert set(zip((event // 3).tolist(), value.tolist(), strict=True)) == {
        (row * 6 + column, (row * 6 - 1) * 3 + 2) for row in (1, 2) for column in (0, 1)
    }


@both
@pytest.mark.parametrize("hidden", [3, 4, 5, 6, 8])
def test_colours_are_those_of_units_not_of_gate_channels(variant, hidden):
    """Each colour sees those before it at its pixel, and only those, for any number of units."""
    models = [tiny((3, 2, 2), 4, variant, seed, hidden=hidden) for seed in range(12)]
    pattern = reached(models)
    assert not pattern[~earlier(models[0])].any()
    own = pattern.view(4, 3, 4, 3)[torch.arange(4), :, torch.arange(4)].any(0)
    assert torch.equal(own, torch.ones(3, 3).tril(-1).bool())
    for scan in scans(models[0]):
        scan.input_to_state.out_splits = 1  # the map goes over all 4h channels
    leak = dependencies(models[0])[~earlier(models[0])]
    assert leak.any(), "the test should see colours by gate channel"


def test_the_last_row_of_the_right_map_is_not_computed():
    model, sizes = tiny((1, 5, 4), 4, "diagonal"), []

    def recorded(scan: Callable[[Tensor], Tensor], gates: Tensor) -> Tensor:
        sizes.append(gates.shape[2])
        return scan(gates)

    for layer in scans(model):
        if layer.reverse:
            layer.scan = partial(recorded, layer.scan)
    model(torch.zeros(1, 1, 5, 4, dtype=torch.int64))
    assert sizes == [4, 4]


def test_lag_of_the_pixel_programs():
    """How far a row must stay behind the one above, if rows ran side by side."""
    assert tiny((1, 5, 6), 2, "row").pixel_program().lag == 4
    assert tiny((1, 5, 6), 2, "diagonal").pixel_program().lag == math.inf


# ---- defects of public code ----------------------------------------------------------------------


def scan_of(function: Callable[..., Tensor], layer: Any, x: Tensor, **keywords: Any) -> Tensor:
    return function(layer.input_to_state(x), layer.weight, layer.h0, layer.c0, **keywords)


def taps_of_the_row_below(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    """A kernel of two rows, padded after them: rows r and r + 1 (carpedm20, philkuz)."""
    upside_down = scan_of(diagonal_lstm, layer.left, x.flip(2)).flip(2)
    return upside_down + F.pad(layer.right(x), (0, 0, 1, -1))


def right_map_moved_up(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    """Zeros appended at the end (carpedm20, philkuz)."""
    return layer.left(x) + F.pad(layer.right(x), (0, 0, -1, 1))


def right_map_not_moved(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    return layer.left(x) + layer.right(x)


def right_map_mirrored(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    """Columns flipped for the scan and never flipped back (gitE0Z9)."""
    return layer.left(x) + F.pad(layer.right(x).flip(3), (0, 0, 1, -1))


def left_map_mirrored(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    """Rows flipped and never flipped back (gitE0Z9)."""
    return layer.left(x.flip(2)) + F.pad(layer.right(x), (0, 0, 1, -1))


def no_right_map(layer: DiagonalBiLSTM, x: Tensor) -> Tensor:
    return layer.left(x)


def own_input_masked(layer: RowLSTM, x: Tensor) -> Tensor:
    """The mask of the input's kernel begins at its centre (rmsnorm)."""
    gates = layer.input_to_state
    shifted = F.conv2d(F.pad(x, (2, 0)), gates.weight[..., :2], gates.bias)[..., :-1]
    return row_lstm(shifted, layer.weight, layer.h0, layer.c0)


def states_of_the_left_only(layer: RowLSTM, x: Tensor) -> Tensor:
    """The kernel over the row above is padded as a causal one (rmsnorm)."""
    weight = torch.cat([layer.weight[..., :2], torch.zeros_like(layer.weight[..., :1])], 2)
    return row_lstm(layer.input_to_state(x), weight, layer.h0, layer.c0)


def kernel_along_the_column(layer: RowLSTM, x: Tensor) -> Tensor:
    """The paper's k x 1 taken for k rows: the input of the row below comes in."""
    gates = layer.input_to_state
    vertical = F.conv2d(x, gates.weight.transpose(2, 3), gates.bias, padding=(1, 0))
    return row_lstm(vertical, layer.weight, layer.h0, layer.c0)


DEFECTS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "taps of the row below": (taps_of_the_row_below, "leaks"),
    "right map moved up": (right_map_moved_up, "leaks"),
    "right map not moved": (right_map_not_moved, "leaks"),
    "right map mirrored": (right_map_mirrored, "misses"),
    "left map mirrored": (left_map_mirrored, "leaks"),
    "no right map": (no_right_map, "misses"),
    "own input masked": (own_input_masked, "misses"),
    "states of the left only": (states_of_the_left_only, "misses"),
    "kernel along the column": (kernel_along_the_column, "leaks"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_receptive_field_tells_every_defect_of_public_scans(defect):
    forward, effect = DEFECTS[defect]
    variant = "row" if list(DEFECTS).index(defect) > 5 else "diagonal"
    shape, models = (1, 4, 12), []
    for seed in range(2):
        model = tiny(shape, 4, variant, seed, layers=1)
        layer = model.layers[0].scan
        layer.forward = partial(forward, layer)
        models.append(model)
    pattern, expected = reached(models), FIELDS[variant](shape, 1)
    assert pattern[~earlier(models[0])].any() == (effect == "leaks")
    assert (expected & ~pattern).any() or effect == "leaks"
