"""What the layers of PixelRNN see, and that the defects of public ports would be caught.

Each port's defect is planted in a plain PyTorch port that skews, as most do: without a defect it equals
genfast, with one it does not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pixel_dependencies import (
    Faults,
    colour_groups,
    faults,
    left_quadrant,
    raster,
    reach,
    right_quadrant,
    triangle,
)
from torch import Tensor, nn

import genfast
from genfast.ops import diagonal_lstm

SIZE = (5, 6)
HIDDEN = 4
NONE = Faults(0, 0)


def randomised(layer: nn.Module, scale: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in layer.double().parameters():
        p.data.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return layer


@pytest.mark.parametrize("size", [SIZE, (6, 5), (1, 5), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize(
    ("make", "allowed"),
    [
        (genfast.nn.RowLSTM, triangle),
        (genfast.nn.DiagonalLSTM, left_quadrant),
        (lambda *a, **k: genfast.nn.DiagonalLSTM(*a, reverse=True, **k), right_quadrant),
        (genfast.nn.DiagonalBiLSTM, raster),
    ],
    ids=["row", "left", "right", "bilstm"],
)
def test_layers_see_exactly_what_they_may(
    make: Callable[..., nn.Module],
    allowed: Callable[..., bool],
    colors: int,
    size: tuple[int, int],
) -> None:
    """0 leaks, 0 missing pairs; 5 units and 7 channels, which 3 does not divide."""
    layer = randomised(make(7, 5, colors=colors), scale=0.7)
    seen = reach(layer, size, colour_groups(7, colors), colour_groups(5, colors))
    assert faults(seen, allowed, size[1]) == NONE


# ---- a port that skews ---------------------------------------------------------------------------


def skew(x: Tensor) -> Tensor:
    """Row r moved r columns to the right: (N, C, H, W) -> (N, C, H, H + W - 1)."""
    n, channels, height, width = x.shape
    skewed = x.new_zeros(n, channels, height, height + width - 1)
    for r in range(height):
        skewed[:, :, r, r : r + width] = x[:, :, r]
    return skewed


def unskew(x: Tensor, width: int) -> Tensor:
    return torch.stack([x[:, :, r, r : r + width] for r in range(x.shape[2])], 2)


def skewed_port(
    gates: Tensor,
    weight: Tensor,
    *,
    padding: tuple[int, int] = (1, 0),
    unskewed: bool = True,
    diagonals: int | None = None,
    candidate: Callable[[Tensor], Tensor] = torch.tanh,
    stale_cell: bool = False,
    mirrored: bool = False,
) -> Tensor:
    """A diagonal LSTM as public ports have it: skew, a convolution a column, unskew.

    padding: above and below the column of h; (0, 1) is what SAME gives a kernel of two.
    mirrored: from right to left, by mirroring what already is skewed.
    """
    width = gates.shape[3]
    z, inside = skew(gates), skew(torch.ones_like(gates[:, :1]))
    if mirrored:
        z, inside = z.flip(3), inside.flip(3)
    n, channels, height, steps = z.shape
    h = c = z.new_zeros(n, channels // 4, height)
    columns = []
    for s in range(steps):
        if diagonals is not None and s >= diagonals:
            columns.append(torch.zeros_like(h))
            continue
        a = z[..., s] + F.conv1d(F.pad(h, padding), weight)
        i, f, g, o = a.chunk(4, 1)
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * candidate(g)
        h = torch.sigmoid(o) * (c if stale_cell else torch.tanh(new))
        h, c = h * inside[..., s], new * inside[..., s]  # padding has no state
        columns.append(h)
    y = torch.stack(columns, 3)
    if mirrored:
        y = y.flip(3)
    return unskew(y, width) if unskewed else y[..., :width]


def both_directions(
    scan: Callable[[Tensor, Tensor], Tensor], shift: int = 1
) -> Callable[[Tensor], Tensor]:
    """A BiLSTM on gates of both directions; the right map is moved down by `shift` rows."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, 4 * HIDDEN, HIDDEN, 2)
    left_weight, right_weight = 0.7 * torch.randn(shape, generator=generator, dtype=torch.float64)

    def layer(gates: Tensor) -> Tensor:
        left = scan(gates, left_weight)
        right = scan(gates.flip(3), right_weight).flip(3)
        return left + F.pad(right, (0, 0, shift, -shift))

    return layer


def faults_of(layer: Callable[[Tensor], Tensor]) -> Faults:
    groups = colour_groups(4 * HIDDEN, 1), colour_groups(HIDDEN, 1)
    return faults(reach(layer, SIZE, *groups), raster, SIZE[1])


def test_the_port_without_a_defect_is_the_op() -> None:
    gates = torch.randn(2, 4 * HIDDEN, *SIZE, dtype=torch.float64)
    weight = torch.randn(4 * HIDDEN, HIDDEN, 2, dtype=torch.float64)
    torch.testing.assert_close(skewed_port(gates, weight), diagonal_lstm(gates, weight))
    assert faults_of(both_directions(skewed_port)) == NONE
    assert faults_of(both_directions(diagonal_lstm)) == NONE


@pytest.mark.parametrize(
    ("defect", "leaks", "missing"),
    [
        ({"padding": (0, 1)}, True, True),
        ({"unskewed": False}, False, True),
        ({"diagonals": SIZE[1]}, False, True),
    ],
    ids=["same-padding", "no-unskew", "too-few-diagonals"],
)
def test_defects_of_the_scan_are_caught(defect: dict, leaks: bool, missing: bool) -> None:
    found = faults_of(both_directions(lambda gates, weight: skewed_port(gates, weight, **defect)))
    assert (found.leaks > 0, found.missing > 0) == (leaks, missing), found


def test_a_right_map_moved_up_is_caught() -> None:
    """Pixels of all rows but the last see those to their right, and of the next row those below too.

    That is 4 (15 + 21) pairs; the last row sees nothing of what is above to its right, 4 * 15 pairs.
    """
    assert faults_of(both_directions(diagonal_lstm, shift=-1)) == Faults(144, 60)
    assert faults_of(both_directions(diagonal_lstm, shift=0)).leaks > 0


def test_mirroring_a_skewed_map_is_caught() -> None:
    """Pixels then read the one above two columns on, a knight's move, and miss those between."""
    generator = torch.Generator().manual_seed(2)
    weight = 0.7 * torch.randn(4 * HIDDEN, HIDDEN, 2, generator=generator, dtype=torch.float64)

    def layer(gates: Tensor) -> Tensor:
        right = skewed_port(gates, weight, mirrored=True)
        return diagonal_lstm(gates, weight) + F.pad(right, (0, 0, 1, -1))

    # Two rows up one column is missed, three rows up three, four rows up five; less at the border.
    assert faults_of(layer) == Faults(0, 3 * 5 + 2 * 12 + 15)


def test_a_map_that_is_not_flipped_back_is_caught() -> None:
    def layer(gates: Tensor) -> Tensor:
        weight = torch.full((4 * HIDDEN, HIDDEN, 2), 0.5, dtype=torch.float64)
        right = diagonal_lstm(gates.flip(3), weight)
        return diagonal_lstm(gates, weight) + F.pad(right, (0, 0, 1, -1))

    assert faults_of(layer).missing > 0


def test_cell_defects_are_caught() -> None:
    """By a sigmoid candidate h is never negative; by a stale cell state it is 0 in the first column."""
    gates = torch.randn(2, 4 * HIDDEN, *SIZE, dtype=torch.float64)
    weight = torch.zeros(4 * HIDDEN, HIDDEN, 2, dtype=torch.float64)
    ours = diagonal_lstm(gates, weight)
    assert (ours < 0).any()
    assert (ours[..., 0] != 0).all()
    assert (skewed_port(gates, weight, candidate=torch.sigmoid) >= 0).all()
    assert (skewed_port(gates, weight, stale_cell=True)[..., 0] == 0).all()


# ---- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "misplaced"), [(64, 128), (128, 256), (96, 0)])
def test_colours_by_gate_channel_are_caught(hidden: int, misplaced: int) -> None:
    """Masks `j::3` over the 4h gate channels give the gates of one unit different colours."""
    channel = torch.arange(4 * hidden)
    unit_colour, gate_colour = channel % hidden % 3, channel % 3
    assert (unit_colour != gate_colour).sum() == misplaced
    if hidden > 64:  # what it does to the map is seen on the smallest
        return
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4 * hidden, 6, generator=generator, dtype=torch.float64)
    live = (torch.arange(6) % 3)[None] <= gate_colour[:, None]
    recurrent = torch.zeros(4 * hidden, hidden, 2, dtype=torch.float64)

    def layer(x: Tensor) -> Tensor:
        return diagonal_lstm(torch.einsum("oi,nihw->nohw", weight * live, x), recurrent)

    inputs = [torch.arange(6) % 3 == colour for colour in range(3)]
    outputs = [torch.arange(hidden) % 3 == colour for colour in range(3)]
    assert faults(reach(layer, (1, 2), inputs, outputs), left_quadrant, 2).leaks > 0
