"""PixelRNN: what each variant sees, its options, and the defects that public code has shipped with."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from enumeration import all_images, dependencies, earlier, randomise, reached
from torch import Tensor, nn

import genfast
from genfast.models import PixelRNN
from genfast.nn import DiagonalBiLSTM, DiagonalLSTM, RowLSTM
from genfast.reference import diagonal_lstm, reorder_gates, row_lstm

VARIANTS = ("row", "diagonal")
both = pytest.mark.parametrize("variant", VARIANTS)


def tiny(image_shape, levels, variant, seed: int = 0, **changes: Any) -> PixelRNN:
    size: dict[str, Any] = {"hidden": 7, "layers": 2}
    model = PixelRNN(image_shape, levels, variant, **size | changes).double()
    randomise(model, seed=seed)
    return model


def scans(model: nn.Module) -> list[RowLSTM | DiagonalLSTM]:
    return [m for m in model.modules() if isinstance(m, RowLSTM | DiagonalLSTM)]


# ---- a distribution ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("options", [{}, {"skip": True}, {"skip": True, "layers": 1}])
@pytest.mark.parametrize(
    ("image_shape", "levels"), [((1, 3, 3), 2), ((1, 2, 3), 3), ((3, 2, 1), 3), ((3, 1, 2), 3)]
)
def test_probabilities_of_all_images_sum_to_one(variant, options, image_shape, levels):
    log_prob = tiny(image_shape, levels, variant, **options).log_prob(all_images(image_shape, levels))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_prob.std() > 0.1


@both
def test_with_skips_it_equals_the_plain_twin_and_every_parameter_is_used(variant):
    model = tiny((3, 4, 5), 4, variant, skip=True, num_classes=2, layers=3)
    twin = genfast.reference.PixelRNN(**model.config).double()
    twin.load_state_dict(model.state_dict())
    x, labels = torch.randint(4, (3, 3, 4, 5)), torch.tensor([0, 1, 1])
    torch.testing.assert_close(model(x, labels), twin(x, labels), rtol=0, atol=1e-12)
    model.loss(x, labels).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@both
def test_probabilities_and_gradients_are_the_same_whatever_is_saved(variant):
    x, found = torch.randint(4, (3, 3, 4, 5)), []
    for saved in ("minimal", "all"):
        model = tiny((3, 4, 5), 4, variant, saved=saved)
        assert {scan.saved for scan in scans(model)} == {saved}
        model.loss(x).backward()
        found.append((model.log_prob(x), [p.grad for p in model.parameters()]))
    (kept_little, gradients), (kept_all, others) = found
    assert torch.equal(kept_little, kept_all)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@both
def test_initial_states_are_learned(variant):
    """From zero, of every scan, every unit of both."""
    model = PixelRNN((1, 4, 4), 4, variant, hidden=7, layers=2)
    states = [state for scan in scans(model) for state in (scan.h0, scan.c0)]
    assert len(states) == (4 if variant == "row" else 8)
    assert not any(state.any() for state in states)
    model.loss(torch.randint(4, (8, 1, 4, 4))).backward()
    assert all((state.grad != 0).all() for state in states)


def test_the_first_pixel_of_row_lstms_and_all_first_ones_of_diagonal_ones_get_the_initial_states():
    """A new state above the image reaches all of row 0, one beside it all rows from column 0 on."""
    x = torch.zeros(1, 1, 4, 5, dtype=torch.int64)
    for variant in VARIANTS:
        model = tiny((1, 4, 5), 4, variant, layers=1)
        before = model(x)
        scan = model.layers[0].scan if variant == "row" else model.layers[0].scan.left
        with torch.no_grad():
            scan.c0.add_(3)
        moved = (model(x) - before).abs().amax((0, 1, 2))
        assert (moved[0] > 1e-3).all() if variant == "row" else (moved[:, 0] > 1e-3).all()


@both
@pytest.mark.parametrize("layers", [1, 7])
def test_number_of_parameters(variant, layers):
    """7x7; of a layer, input to gates, states to gates, initial states and the 1x1 back; the head."""
    h, taps_of_scans = 16, {"row": [(3, 3)], "diagonal": [(1, 2)] * 2}[variant]
    model = PixelRNN((1, 28, 28), 2, variant, hidden=h, layers=layers)
    a_layer = sum(4 * h * (2 * h * x + 1 + h * state) + 2 * h for x, state in taps_of_scans)
    a_layer += 2 * h * (h + 1)
    outside = 2 * h * (49 + 1) + 2 * h * (2 * h + 1) + 2 * h + 1
    assert sum(p.numel() for p in model.parameters()) == outside + layers * a_layer


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


def test_a_row_of_the_diagonal_variant_is_an_lstm():
    """tanh of the candidate and of the cell state, c of the pixel before (carpedm20; unnamed ports)."""
    model = tiny((1, 1, 8), 4, "diagonal")
    scan = model.layers[0].scan.left
    lstm = nn.LSTM(14, 7, batch_first=True).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(scan.input_to_state.weight[:, :, 0, 0])
        lstm.weight_hh_l0.copy_(scan.weight[..., 1])
        lstm.bias_ih_l0.copy_(scan.input_to_state.bias)
        lstm.bias_hh_l0.zero_()
    x = torch.randn(3, 14, 1, 8, dtype=torch.float64)
    states = tuple(state.expand(1, 3, -1).contiguous() for state in (scan.h0, scan.c0))
    expected = lstm(x[:, :, 0].transpose(1, 2), states)[0].transpose(1, 2)[:, :, None]
    torch.testing.assert_close(model.layers[0].scan(x), expected, rtol=0, atol=1e-14)


@both
def test_weights_in_another_order_of_gates_are_imported(variant):
    """igul222's gates come as o, f, i, g."""
    model, other = tiny((1, 4, 4), 4, variant), tiny((1, 4, 4), 4, variant, seed=1)
    per_gate = ("to_state.weight", "to_state.bias", "scan.weight", "left.weight", "right.weight")
    published = {}
    for key, value in model.state_dict().items():
        if key.endswith(per_gate):
            i, f, g, o = value.chunk(4)
            value = torch.cat([o, f, i, g])
        published[key] = value
    imported = {
        key: reorder_gates(value, "ofig") if key.endswith(per_gate) else value
        for key, value in published.items()
    }
    other.load_state_dict(imported)
    x = torch.randint(4, (3, 1, 4, 4))
    assert torch.equal(other.log_prob(x), model.log_prob(x))
    other.load_state_dict(published)
    assert not torch.allclose(other.log_prob(x), model.log_prob(x))


# ---- people's mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "column"}, "variant must be 'row' or 'diagonal', got 'column'"),
        ({"hidden": 2}, "hidden must be at least the 3 colours of the image, got 2"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"saved": "some"}, "saved must be 'minimal' or 'all', got 'some'"),
        ({"num_classes": -1}, "num_classes .* got -1"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelRNN((3, 4, 4), 2, **arguments)
