"""PixelRNN: a distribution, its options, its scans against those of other code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from enumeration import all_images, randomise
from torch import nn

import genfast
from genfast.models import PixelRNN
from genfast.nn import DiagonalLSTM, RowLSTM
from genfast.reference import reorder_gates

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


# ---- the scans of other code ---------------------------------------------------------------------


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
