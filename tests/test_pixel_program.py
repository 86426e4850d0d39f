"""Pixel programs: what runs when is derived, and what is not causal is refused."""

from __future__ import annotations

import pytest
import torch

from genfast.models import GatedPixelCNN
from genfast.sampling import Phase, Program, ProgramBuilder, Tap
from genfast.sampling.lowering import colour_order, convolution, masked_convolution
from genfast.sampling.program import Compute


def counts(program: Program) -> dict[str, int]:
    return {phase.name: len(program.phase(phase)) for phase in Phase}


def compute(program: Program, name: str) -> Compute:
    (found,) = (i for i in program.instructions if i.name == name)
    return found


def grey(height: int = 6, width: int = 6) -> ProgramBuilder:
    return ProgramBuilder((1, height, width), levels=2)


def kernel(rows: int, columns: int, outputs: int = 1, inputs: int = 1) -> torch.Tensor:
    return torch.ones(outputs, inputs, rows, columns)


# ---- phases and reach ----------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 8])
def test_phases_of_the_gated_pixelcnn(layers):
    """Links are known before the row, what is horizontal at its pixel, what is vertical after it."""
    program = GatedPixelCNN((1, 9, 9), 2, 4, layers).pixel_program()
    assert counts(program) == {
        "ROW": layers,  # links
        "PIXEL": 2 * layers + 3,  # gate and 1x1 of each layer, the head's two, the draw
        "POST": 0,
        "END": 2 * layers - 1,  # vertical product and gate; the last layer's gate has no reader
    }


@pytest.mark.parametrize("layers", [1, 2, 5, 8])
def test_lag_and_reach_of_the_gated_pixelcnn(layers):
    """The row above is seen 3 + layers - 1 columns to the right of the pixel: the wavefront's lag."""
    program = GatedPixelCNN((1, 9, 9), 2, 4, layers).pixel_program()
    assert program.lag == layers + 3
    (reach,) = program.reaches
    assert reach[0] == -1
    assert reach[1] == 3 + layers - 1
    assert max(reach) == 3 + layers  # rows above: 3 by the first kernel, one a layer, one by the link


def test_colours_take_a_step_each():
    program = GatedPixelCNN((3, 5, 5), 4, 8, 2).pixel_program()
    assert [reach[0] for reach in program.reaches] == [-1, 0, 1]
    pixel = program.phase(Phase.PIXEL)
    steps = [i.step for i in pixel]
    assert steps == sorted(steps)
    for step in range(3):
        assert [i.name for i in pixel if i.step == step][-1] == f"draw {step}"
        names = [i.name for i in pixel if i.step == step][:-1]
        assert names
        assert all(f"colour {step}" in name for name in names)


def test_buffers_are_as_deep_and_wide_as_they_are_read():
    program = GatedPixelCNN((1, 9, 9), 2, 4, 3).pixel_program()
    sizes = {b.name: (b.depth, b.left, b.right) for b in program.buffers}
    assert sizes["image"] == (4, 3, 3)  # the 7x7 kernel: 3 rows above, 3 columns to either side
    assert sizes["blocks.0.gate"] == (2, 1, 1)  # read by a kernel of 2 x 3
    assert sizes["blocks.0.vertical"] == (2, 0, 0)  # by the link, a row below
    assert sizes["blocks.0.link"] == (1, 0, 0)
    assert sizes["blocks.0.out"] == (1, 1, 0)
    assert sizes["head.1"] == (1, 0, 0)


def test_what_needs_the_pixel_itself_runs_after_it_if_the_row_reads_it():
    """PixelCNN++'s first layer: a 2 x 1 convolution that includes the pixel, shifted to the right."""
    builder = grey()
    column = convolution(builder, "column", builder.image, kernel(2, 1), above=1)
    logit = builder.compute("logit", before=[column.at(0, -1)])
    builder.draw(logit, "bernoulli")
    program = builder.build()
    assert compute(program, "column").phase == Phase.POST
    assert compute(program, "logit").phase == Phase.PIXEL


def test_what_only_later_rows_read_waits_for_the_end_of_the_row():
    builder = grey()
    column = convolution(builder, "column", builder.image, kernel(2, 1), above=1)
    builder.draw(builder.compute("logit", before=[column.at(-1, 0)]), "bernoulli")
    program = builder.build()
    assert compute(program, "column").phase == Phase.END
    assert compute(program, "logit").phase == Phase.ROW


def test_inputs_are_known_beforehand():
    builder = grey()
    plane, vector, ones = builder.map("plane", 2), builder.vector("vector", 3), builder.ones()
    known = builder.compute(
        "known", [plane.at(0, 1), ones.at(0, 1)], torch.ones(3, 3), before=[vector], function="relu"
    )
    builder.draw(builder.compute("logit", [known], torch.ones(1, 3)), "bernoulli")
    program = builder.build()
    assert compute(program, "known").phase == Phase.ROW
    assert set(program.inputs) == {"plane", "vector"}
    assert program.lag == 0


# ---- splitting -----------------------------------------------------------------------------------


def split_case(split: bool) -> Program:
    builder = grey()
    builder.draw(
        convolution(builder, "logit", builder.image, kernel(3, 1), above=2, left=0).at(0, -1),
        "bernoulli",
    )
    return builder.build(split=split)


def test_a_product_is_split_into_what_the_row_and_what_the_pixel_knows():
    whole, split = split_case(False), split_case(True)
    assert counts(whole) == {"ROW": 0, "PIXEL": 1, "POST": 1, "END": 0}
    assert counts(split) == {"ROW": 1, "PIXEL": 1, "POST": 1, "END": 0}
    row, rest = compute(split, "logit (row)"), compute(split, "logit")
    assert [t.row for t in row.taps] == [-2, -1]
    assert [t.row for t in rest.taps] == [0]
    assert [t.buffer for t in rest.before] == [row.target.buffer]
    assert rest.bias is None


def test_what_nothing_waits_for_is_not_split():
    program = GatedPixelCNN((1, 9, 9), 2, 4, 3).pixel_program()
    assert not [i.name for i in program.instructions if "(row)" in i.name]


# ---- causality -----------------------------------------------------------------------------------


def test_a_planted_acausal_convolution_is_named():
    builder = grey()
    first = convolution(builder, "first", builder.image, kernel(1, 3), left=3)
    centred = convolution(builder, "centred", first, kernel(3, 3), above=2, left=0)
    logit = builder.compute("logit", before=[centred], function="relu")
    builder.draw(logit, "bernoulli")
    message = r"not causal: draw 0 needs draw 0 of the pixel 1 .* logit <- centred <- first <- the image"
    with pytest.raises(ValueError, match=message):
        builder.build()


def test_a_mask_of_type_b_in_the_first_layer_is_not_causal():
    builder = grey()
    logit = masked_convolution(builder, "first", builder.image, kernel(3, 3), mask_type="B")
    builder.draw(logit, "bernoulli")
    with pytest.raises(ValueError, match="not causal: draw 0 needs draw 0 of the pixel 0 columns"):
        builder.build()


def test_a_colour_that_sees_itself_is_not_causal():
    builder = ProgramBuilder((2, 4, 4), levels=2)
    weight = kernel(1, 1, 2, 2)
    logits = masked_convolution(builder, "first", builder.image, weight, mask_type="B", colours=2)
    builder.draw(logits[0:1], "bernoulli", 0)
    builder.draw(logits[1:2], "bernoulli", 1)
    with pytest.raises(ValueError, match="not causal: draw 0 needs draw 0"):
        builder.build()


def test_colours_must_not_meet_in_one_instruction():
    """A function over all colours at once would make the first draw wait for the last."""
    builder = ProgramBuilder((2, 4, 4), levels=2)
    logits = masked_convolution(
        builder, "first", builder.image, kernel(1, 1, 2, 2), torch.zeros(2), mask_type="A", colours=2
    )
    active = builder.compute("active", before=[logits], function="relu")
    builder.draw(active[0:1], "bernoulli", 0)
    builder.draw(active[1:2], "bernoulli", 1)
    with pytest.raises(ValueError, match=r"draw 0 needs draw 0 .* active <- first, colour 1"):
        builder.build()


def test_a_row_below_is_refused_at_once():
    builder = grey()
    with pytest.raises(ValueError, match="vertical reads image 1 rows below: not causal"):
        convolution(builder, "vertical", builder.image, kernel(3, 1), above=1)


def test_a_value_that_is_not_there_yet_cannot_be_read():
    builder = grey()
    behind = convolution(builder, "behind", builder.image, kernel(1, 1), left=3)
    builder.draw(builder.compute("logit", before=[behind.at(0, 1)]), "bernoulli")
    with pytest.raises(ValueError, match="logit reads behind 1 columns to the right"):
        builder.build()


def test_a_value_of_the_end_of_the_row_cannot_be_read_on_it():
    builder = grey()
    ahead = convolution(builder, "ahead", builder.image, kernel(1, 1), left=-1)
    builder.draw(builder.compute("logit", before=[ahead.at(0, -2)]), "bernoulli")
    with pytest.raises(ValueError, match="logit reads ahead, which looks to the right"):
        builder.build()


# ---- people's mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda b: b.compute("a", [b.image], torch.ones(2, 3)),
            r"a: weight of shape \(2, 3\) for taps of 1",
        ),
        (lambda b: b.compute("a", [b.image]), "a: taps and weight go together"),
        (lambda b: b.compute("a"), r"a: weight, bias and before must agree .* got \[\]"),
        (
            lambda b: b.compute("a", [b.image], torch.ones(2, 1), torch.ones(3)),
            r"a: weight, bias and before must agree .* got \[2, 3\]",
        ),
        (
            lambda b: b.compute("a", [b.image], torch.ones(3, 1), function="gate"),
            "a: gate needs an even number of channels, got 3",
        ),
        (
            lambda b: b.compute("a", [b.image], torch.ones(2, 1), into=b.buffer("c", 3)),
            r"a: gives 2 channels, but target and after have \[3\]",
        ),
        (
            lambda b: b.compute("a", before=[b.buffer("c", 3)]),
            "a reads channel 0 of c before it is written",
        ),
        (lambda b: b.compute("a", before=[b.vector("c", 3).at(0, 1)]), "a: c is the same everywhere"),
        (lambda b: b.compute("a", before=[b.image], into=b.image), "a: into must be an unmoved tap"),
        (lambda b: b.buffer("c", 0), "c: a buffer needs at least 1 channel, got 0"),
        (lambda b: b.image[1:2], "channels .* of a tap with 1 channels are none"),
        (lambda b: b.draw(b.image, "categorical"), "draw 0: categorical needs 4 channels, got 1"),
        (lambda b: b.draw(b.vector("c", 4), "logistic_mixture"), "needs 10K .* got 4 for 1"),
        (lambda b: b.draw(b.image, "bernoulli", 1), "colours are drawn in their order, got colour 1"),
        (lambda b: b.build(), "0 colours are drawn, but the image has 1"),
        (
            lambda b: convolution(b, "a", b.image, kernel(1, 1), stride=3),
            "a: stride must be 1 or 2, got 3",
        ),
    ],
)
def test_the_builder_names_what_is_wrong(use, message):
    with pytest.raises(ValueError, match=message):
        use(ProgramBuilder((1, 4, 4), levels=4))


def test_channels_are_written_once():
    builder = grey()
    target = builder.buffer("c", 2)
    builder.compute("a", before=[builder.image], into=target[0:1])
    with pytest.raises(ValueError, match="b writes what a has written"):
        builder.compute("b", [builder.image], torch.ones(2, 1), into=target)


def test_levels_are_read_by_their_neighbours():
    builder = grey()
    half = convolution(builder, "half", builder.image, kernel(1, 1), stride=2)
    quarter = convolution(builder, "quarter", half, kernel(1, 1), stride=2)
    with pytest.raises(ValueError, match="a on level 0 reads quarter on level 2"):
        builder.compute("a", before=[quarter], parity=(0, 0))
    with pytest.raises(ValueError, match="needs a parity"):
        builder.compute("a", before=[half])


def test_taps_move_and_slice():
    tap = Tap(3, 2, 6).at(-1, 2).at(0, -1)[1:4]
    assert (tap.start, tap.stop, tap.channels, tap.row, tap.column) == (3, 6, 3, -1, 1)


@pytest.mark.parametrize(
    ("channels", "colours", "parts"), [(12, 3, 2), (14, 3, 2), (9, 2, 1), (20, 3, 4)]
)
def test_colour_order_is_a_permutation_by_colour(channels, colours, parts):
    order = colour_order(channels, colours, parts)
    assert sorted(order.tolist()) == list(range(channels))
    width = channels // parts
    assert ((order % width) * colours // width).tolist() == sorted(
        ((torch.arange(channels) % width) * colours // width).tolist()
    )
