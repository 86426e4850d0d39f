"""Recurrent pixel programs: what runs when is derived, and what is not causal is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from sampled import draw_levels, teacher_forced
from test_pixel_program import compute, counts, grey
from torch import Tensor
from toy_pixel_rnn import ToyPixelRNN

from genfast.sampling import Phase, ProgramBuilder
from genfast.sampling.lowering import diagonal_lstm, row_lstm
from genfast.sampling.program import CHANNELS

ONE = torch.ones(1, 1)


# ---- when what runs --------------------------------------------------------------------------------


def test_phases_of_the_row_lstm():
    """What comes from the row above, and so the product with the state, is taken for whole rows."""
    program = ToyPixelRNN((1, 8, 8), 2, "row", layers=3).program()
    assert counts(program) == {
        "ROW": 1 + 3,  # first convolution, state to state
        "PIXEL": 1 + 2 * 3 + 3,  # first, cell and projection of each layer, the head's two, the draw
        "POST": 0,
        "END": 0,
    }
    assert [t.row for t in compute(program, "layers.1 (row)").taps] == [-1, -1, -1]
    assert [t.row for t in compute(program, "layers.1").taps] == [0, 0]
    assert not any(getattr(i, "scan", 0) for i in program.instructions)


def test_phases_of_the_diagonal_bilstm():
    """What goes from right to left runs after the row; all layers' scans come last, side by side."""
    program = ToyPixelRNN((1, 8, 8), 2, "diagonal", layers=3).program()
    assert counts(program) == {"ROW": 1 + 2 * 3, "PIXEL": 1 + 2 * 3 + 3, "POST": 0, "END": 2 * 3}
    products, scans = program.phase(Phase.END)[:3], program.phase(Phase.END)[3:]
    assert [(i.scan, i.step) for i in products] == [(0, 0)] * 3
    assert [(i.scan, i.step) for i in scans] == [(-1, 1)] * 3
    assert [[t.column for t in i.taps] for i in scans] == [[1]] * 3


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("layers", [1, 4])
def test_the_lag_of_the_row_lstm_is_4(colours, layers):
    """Row r - k is seen k + 2 columns to the right, by 7x7 and 3-tap kernels; so rows lag by 4."""
    program = ToyPixelRNN((colours, 7, 5), 2, "row", layers=layers).program()
    assert program.lag == 4
    reach = program.reaches[-1]
    assert reach == {k: colours * (k + 3) - 1 if k else colours - 2 for k in range(7)}


def test_rows_of_the_diagonal_bilstm_cannot_overlap():
    assert ToyPixelRNN((1, 5, 5), 2, "diagonal").program().lag == math.inf
    assert ToyPixelRNN((1, 5, 5), 2, "left").program().lag == 4


def test_a_program_says_what_its_cells_read():
    text = ToyPixelRNN((1, 4, 4), 2, "row", layers=1).program().describe()
    assert "PIXEL  layers.0: lstm of first, layers.0 (row), layers.0[-1]" in text


# ---- sums as states: what comes out is known in closed form ----------------------------------------


def outputs_of(builder: ProgramBuilder, value, x: Tensor) -> Tensor:
    """A value of one channel at every pixel of images (N, 1, H, W) of levels 0 and 1."""
    builder.draw(builder.compute("logit", before=[value]), "bernoulli")
    outputs = [teacher_forced(builder.build(), x, {}, e) for e in ("interpreter", "native")]
    assert torch.equal(*outputs)
    return outputs[0]


def summed(builder: ProgramBuilder, name: str, source, row: int, column: int, **borders):
    """source + the sum itself at another position."""
    state = builder.state(name, 1, **borders)
    return builder.compute(name, [state.at(row, column)], ONE, before=[source], into=state)


@pytest.mark.parametrize(("height", "width"), [(4, 5), (1, 4), (4, 1)])
def test_sums_by_recursion(height, width):
    x = draw_levels(2, 2, 1, height, width)
    seen = 2.0 * x - 1

    left = grey(height, width)
    value = summed(left, "left", left.image, 0, -1)
    assert torch.equal(outputs_of(left, value.at(0, -1), x), F.pad(seen.cumsum(3), (1, -1)))
    (post,) = left.build().phase(Phase.POST)
    assert post.name == "left"

    right = grey(height, width)
    value = summed(right, "right", right.image, 0, 1)
    expected = F.pad(seen.flip(3).cumsum(3).flip(3), (0, 0, 1, -1))
    assert torch.equal(outputs_of(right, value.at(-1, 0), x), expected)
    (end,) = right.build().phase(Phase.END)
    assert (end.name, end.scan) == ("right", -1)

    above = grey(height, width)
    value = summed(above, "above", above.image.at(-1, 0), -1, 0)
    columns = F.pad(seen.cumsum(2), (0, 0, 1, -1))
    assert torch.equal(outputs_of(above, value, x), columns)

    area = grey(height, width)
    value = summed(area, "area", summed(area, "above", area.image.at(-1, 0), -1, 0), 0, -1)
    assert torch.equal(outputs_of(area, value, x), columns.cumsum(3))
    row = area.build().phase(Phase.ROW)
    assert [(i.name, i.scan) for i in row if i.scan] == [("area", 1)]


def test_states_have_borders():
    x = torch.ones(1, 1, 3, 4, dtype=torch.int64)
    above, beside = torch.tensor([[10.0, 20, 30, 40]]), torch.tensor([[100.0], [200], [300]])
    builder = grey(3, 4)
    value = summed(builder, "above", builder.image.at(-1, 0), -1, 0, above=above)
    expected = torch.tensor([0.0, 1, 2])[:, None] + above
    assert torch.equal(outputs_of(builder, value, x)[0, 0], expected)

    builder = grey(3, 4)
    value = summed(builder, "beside", builder.image.at(-1, 0), 0, -1, beside=beside)
    expected = beside + torch.tensor([0.0, 1, 1])[:, None] * torch.arange(1.0, 5)
    assert torch.equal(outputs_of(builder, value, x)[0, 0], expected)


def test_scans_that_read_scans_come_after_them():
    """From right to left, then the result from left to right: steps, not one group."""
    builder, x = grey(3, 4), draw_levels(2, 2, 1, 3, 4)
    right = summed(builder, "right", builder.image, 0, 1)
    both = summed(builder, "both", right, 0, -1)
    got = outputs_of(builder, both.at(-1, 0), x)
    steps = {i.name: (i.scan, i.step) for i in builder.build().phase(Phase.END)}
    assert steps == {"right": (-1, 1), "both": (1, 3)}
    seen = 2.0 * x - 1
    assert torch.equal(got, F.pad(seen.flip(3).cumsum(3).flip(3).cumsum(3), (0, 0, 1, -1)))


FUNCTIONS = ["identity", "relu", "elu", "concat_elu", "gate", "glu"]


def check_scan_of(function: str) -> None:
    """A scan, a function of its last result, the row above and the image, with something added."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    builder = grey(4, 5)
    taken, given = CHANNELS[function]
    state = builder.state("scan", 3 * given, above=random(3 * given, 5), beside=random(4, 3 * given))
    added = builder.compute("added", [builder.image], random(3 * given, 1), function="relu")
    builder.compute(
        "scan", [builder.image, state.at(0, 1), state.at(-1, 0)], random(3 * taken, 1 + 6 * given) / 4,
        random(3 * taken), after=[added], function=function, into=state,
    )  # fmt: skip
    logit = builder.compute("logit", [state.at(-1, 0)], random(1, 3 * given))
    builder.draw(logit, "bernoulli")
    program, x = builder.build(), draw_levels(2, 5, 1, 4, 5)
    assert [i.scan for i in program.phase(Phase.END) if i.name == "scan"] == [-1]
    native, plain = (teacher_forced(program, x, {}, e) for e in ("native", "interpreter"))
    torch.testing.assert_close(native, plain, rtol=1e-5, atol=1e-5)
    assert plain[:, :, 1:].std() > 0.1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_can_be_scanned(function, isa):
    check_scan_of(function)


# ---- what is refused -------------------------------------------------------------------------------


def test_a_scan_from_the_right_is_not_causal_on_its_own_row():
    builder = grey()
    value = summed(builder, "right", builder.image.at(-1, 0), 0, 1)
    builder.draw(builder.compute("logit", before=[value]), "bernoulli")
    builder.build()  # of finished rows: it is causal
    builder = grey()
    value = summed(builder, "right", builder.image, 0, 1)
    builder.draw(builder.compute("logit", before=[value]), "bernoulli")
    message = r"not causal: draw 0 needs all of its row, by way of logit <- right$"
    with pytest.raises(ValueError, match=message):
        builder.build()


def test_a_mask_of_type_b_in_the_first_layer_is_not_causal():
    builder = grey()
    weights = torch.ones(8, 1, 1, 3), torch.zeros(8), torch.ones(8, 2, 3)
    h = row_lstm(builder, "cell", builder.image, *weights)
    builder.draw(builder.compute("logit", [h], torch.ones(1, 2)), "bernoulli")
    with pytest.raises(ValueError, match=r"draw 0 of the pixel 0 .* logit <- cell <- the image"):
        builder.build()


def test_a_value_that_needs_itself_without_end():
    builder = grey()
    state = builder.state("state", 1)
    ahead = builder.compute("ahead", before=[builder.image.at(-1, 0), state.at(0, -1)])
    builder.compute("state", before=[ahead.at(0, 2)], into=state)
    builder.draw(builder.compute("logit", before=[state]), "bernoulli")
    with pytest.raises(ValueError, match="ahead needs itself, further and further to the right"):
        builder.build()


def test_a_scan_of_finished_rows_is_one_instruction():
    builder = grey()
    state = builder.state("state", 1)
    part = builder.compute("part", before=[builder.image.at(-1, 0), state.at(0, -1)])
    builder.compute("state", before=[part], into=state)
    builder.draw(builder.compute("logit", before=[state]), "bernoulli")
    with pytest.raises(ValueError, match="part reads state on its own row, which runs later"):
        builder.build()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda b, s: b.compute("a", before=[s[:1]], into=s[:1]), "a reads channel 0 of s before"),
        (lambda b, s: b.build(), "the program reads channel 0 of s before it is written"),
        (lambda b, s: b.compute("a", bias=torch.ones(4), function="lstm"), "a: an lstm, and no other"),
        (lambda b, s: b.compute("a", bias=torch.ones(4), cell=s), "a: an lstm, and no other"),
        (
            lambda b, s: b.compute(
                "a", bias=torch.ones(4), function="lstm", cell=s[:1].at(-1, 0), after=[b.image]
            ),
            "a: nothing can be added after an lstm",
        ),
        (
            lambda b, s: b.compute("a", bias=torch.ones(4), function="lstm", cell=s[:1].at(-1, 0)),
            "a: an lstm writes into a state that its cell is in",
        ),
        (
            lambda b, s: b.compute(
                "a", bias=torch.ones(4), function="lstm", cell=s[:1].at(-1, 0), into=s[:1]
            ),
            "a: the cell needs 1 channels apart from the target's, got 0 to 0 beside 0 to 0",
        ),
        (
            lambda b, s: b.compute("a", bias=torch.ones(4), function="lstm", cell=s[1:2], into=s[:1]),
            "a reads channel 1 of s before it is written",
        ),
        (
            lambda b, s: b.state("t", 2, above=torch.ones(2, 5)),
            r"t: above must have shape \(2, 6\) or \(2,\), got \(2, 5\)",
        ),
        (
            lambda b, s: b.state("t", 2, beside=torch.ones(2, 6)),
            r"t: beside must have shape \(6, 2\) or \(2,\), got \(2, 6\)",
        ),
        (
            lambda b, s: diagonal_lstm(
                b, "a", b.image, torch.ones(8, 1, 1, 1), None, torch.ones(8, 2, 2), torch.ones(6, 3)
            ),
            r"a: h0 must have shape \(6, 2\) or \(2,\), got \(6, 3\)",
        ),
    ],
)
def test_the_builder_names_what_is_wrong(use, message):
    builder = grey()
    state = builder.state("s", 2)
    if message.startswith("the program"):
        builder.draw(builder.compute("logit", before=[builder.image.at(-1, 0)]), "bernoulli")
    with pytest.raises(ValueError, match=message):
        use(builder, state)


def test_a_scan_has_one_direction():
    builder = grey()
    state = builder.state("s", 1)
    builder.compute("s", before=[builder.image, state.at(0, 1), state.at(0, -1)], into=state)
    builder.draw(builder.compute("logit", before=[state.at(-1, 0)]), "bernoulli")
    with pytest.raises(ValueError, match="s reads itself on both sides: a scan has one direction"):
        builder.build()
