"""Recurrent pixel programs on the CUDA engine, run on the CPU."""

from __future__ import annotations

import pytest
import test_recurrent_programs as recurrent
import test_recurrent_schedule as schedule
import torch
from checks import assert_as_exact_as_torch
from sampled import draw_levels, teacher_forced
from test_pixel_sampler_emulated import draw_images, emulated, launched_singly

from genfast.sampling import ProgramBuilder
from genfast.sampling.lowering import diagonal_lstm

__all__ = ["emulated"]  # a fixture

# Units that fill no vector or more than one; colours; more images and more scans than one launch takes.
CASES = [
    (("row", (1, 3, 4), 3, 18), 2, 5),
    (("diagonal", (3, 4, 3), 2, 7), 2, 5),
    (("diagonal", (1, 6, 2), 4, 33), 1, 3),
    (("diagonal", (1, 2, 3), 2, 3), 9, 2),
]


@torch.no_grad()
@pytest.mark.parametrize(("case", "layers", "n"), CASES)
def test_parameters_are_those_of_the_full_forward(case, layers, n, emulated):
    model, x = recurrent.made(case, layers=layers), draw_levels(case[2], n, *case[1])
    program = model.program()
    got = teacher_forced(program, x, {}, "native")
    assert torch.equal(teacher_forced(program, x[:1], {}, "native"), got[:1])
    plain = model(x)
    assert_as_exact_as_torch(got, plain, model.double()(x), str(case))


@torch.no_grad()
@pytest.mark.parametrize("case", [("row", (1, 9, 3), 4, 5), ("diagonal", (1, 9, 3), 4, 5)])
def test_replayed_rows_give_the_bits_of_single_launches(case, emulated):
    """States above the image are in the rings from the start; those beside it depend on the row."""
    program = recurrent.made(case).program()
    before = emulated.graph_launches()
    images = draw_images(program, "native", 3, seed=2)
    assert emulated.graph_launches() > before
    with launched_singly():
        assert torch.equal(draw_images(program, "native", 3, seed=2), images)
    assert torch.equal(draw_images(program, "interpreter", 3, seed=2), images)
    assert images.unique().numel() > 2


def test_sums_by_recursion(emulated):
    schedule.test_sums_by_recursion(3, 5)
    schedule.test_scans_that_read_scans_come_after_them()
    schedule.test_states_have_borders()


@torch.no_grad()
@pytest.mark.parametrize("function", schedule.FUNCTIONS)
def test_every_function_can_be_scanned(function, emulated):
    schedule.check_scan_of(function)


@pytest.mark.parametrize(
    ("hidden", "inputs", "message"),
    [
        (800, 1, "a scan of 800 channels to 3200 outputs needs more shared memory"),
        (2, 9, "more than 8 taps"),
    ],
)
def test_scans_that_the_kernel_has_no_room_for_are_refused(hidden, inputs, message, emulated):
    builder = ProgramBuilder((1, 2, 2), 2)
    weights = torch.ones(4 * hidden, 1, 1, 2 * inputs - 1), None, torch.ones(4 * hidden, hidden, 2)
    h = diagonal_lstm(builder, "scan", builder.image, *weights, reverse=True)
    builder.draw(builder.compute("logit", [h.at(-1, 0)], torch.ones(1, hidden)), "bernoulli")
    with pytest.raises(ValueError, match=message):
        draw_images(builder.build(split=inputs == 1), "native", 1)
