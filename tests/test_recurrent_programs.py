"""Recurrent models as pixel programs: the outputs of the full forward, the images of naive sampling."""

from __future__ import annotations

import itertools

import pytest
import torch
from checks import assert_as_exact_as_torch
from enumeration import all_images
from sampled import draw_levels, teacher_forced
from scipy import stats
from torch import Tensor
from toy_pixel_rnn import ToyPixelRNN, diagonal_scan

from genfast.sampling import (
    PixelSampler,
    Program,
    categorical,
    incremental,
    uniforms,
)

# variant, image shape, levels, hidden: colours, odd sizes, sizes of 1, widths that colours do not divide
CASES = [
    ("row", (1, 6, 7), 2, 5),
    ("row", (3, 4, 5), 3, 7),
    ("row", (1, 1, 6), 4, 3),
    ("row", (3, 5, 1), 2, 4),
    ("left", (1, 5, 4), 3, 4),
    ("diagonal", (1, 6, 7), 2, 5),
    ("diagonal", (1, 4, 3), 256, 17),
    ("diagonal", (3, 5, 4), 3, 7),
    ("diagonal", (2, 1, 6), 4, 3),
    ("diagonal", (3, 5, 1), 2, 4),
    ("diagonal", (1, 1, 1), 2, 2),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")


def made(case: tuple, **keywords) -> ToyPixelRNN:
    variant, shape, levels, hidden = case
    return ToyPixelRNN(shape, levels, variant, hidden, **keywords)


def naive(model: ToyPixelRNN, n: int, seed: int) -> Tensor:
    """Images by one full forward for every colour of every pixel."""
    colours, height, width = model.image_shape
    x = torch.zeros(n, colours, height, width, dtype=torch.int64)
    for pixel in range(height * width):
        row, column = divmod(pixel, width)
        for colour in range(colours):
            own = slice(colour * model.levels, (colour + 1) * model.levels)
            logits = model(x)[:, own, row, column]
            u = uniforms(seed, torch.arange(n), pixel, colours)
            x[:, colour, row, column] = categorical(logits, u[:, colour])
    return x


def sampled(program: Program, n: int, seed: int, engine: str) -> Tensor:
    x = torch.zeros(n, *program.image_shape, dtype=torch.int64)
    PixelSampler(program, engine).fill(x, torch.zeros_like(x, dtype=torch.bool), seed=seed)
    return x


# ---- the toy itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_a_diagonal_scan_is_an_lstm_along_each_row(reverse):
    """scans.md's oracle: nn.LSTM row by row, with h of the row above as a further input."""
    model = ToyPixelRNN((1, 5, 9), 2, "diagonal", hidden=4).double()
    weight, h0, c0 = model.scans[0][0].all[2:]
    gates = torch.randn(2, 16, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = diagonal_scan(gates, weight, h0, c0, reverse)
    lstm = torch.nn.LSTM(4 + 16, 4, batch_first=True, bias=False).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.cat([weight[:, :, 0], torch.eye(16)], 1))
        lstm.weight_hh_l0.copy_(weight[:, :, 1])
        above = torch.zeros(2, 9, 4, dtype=torch.float64)
        for row in range(5):
            inputs = torch.cat([above, gates[:, :, row].transpose(1, 2)], 2)
            start = [s[row].expand(1, 2, -1).contiguous() for s in (h0, c0)]
            inputs = inputs.flip(1) if reverse else inputs
            above = lstm(inputs, tuple(start))[0]
            above = above.flip(1) if reverse else above
            torch.testing.assert_close(got[:, :, row], above.transpose(1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_the_toy_sees_the_pixels_that_it_should(variant):
    """A Row LSTM sees row r - k up to k + 2 columns to the right, its own row 3 columns to the left and
    one more a layer.

    A Diagonal BiLSTM sees all that is earlier, but for the last pixel of the row above: mask A of the
    first layer hides it from the scan that starts there, and only 3 columns see it directly.
    """
    height, width = 4, 7
    model = ToyPixelRNN((1, height, width), 2, variant, hidden=6).double()
    x = draw_levels(2, 1, 1, height, width).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).sum(1).flatten(), x)
    pixel = torch.arange(height * width)
    row, column = pixel // width, pixel % width
    rows, columns = row[:, None] - row[None], column[None] - column[:, None]
    expected = pixel[None] < pixel[:, None]
    if variant == "row":
        expected &= torch.where(rows == 0, columns >= -3 - 2, columns <= rows + 2)
    else:
        expected &= (rows != 1) | (column[None] < width - 1) | (columns <= 3)
    assert torch.equal(jacobian.flatten(1) != 0, expected)


# ---- the same as the full forward ------------------------------------------------------------------


@torch.no_grad()
@cases
@pytest.mark.parametrize("split", [True, False])
def test_the_interpreter_computes_what_the_model_does(case, split):
    model = made(case).double()
    x = draw_levels(case[2], 3, *case[1])
    got = teacher_forced(model.program(split=split), x, {}, "interpreter")
    full = model(x)
    torch.testing.assert_close(got, full, rtol=0, atol=1e-10)
    assert full.std() > 0.3


@torch.no_grad()
@cases
@pytest.mark.parametrize("batch", [1, 3, 14])
def test_the_engine_is_as_exact_as_the_full_forward_in_fp32(case, batch, isa):
    model, x = made(case), draw_levels(case[2], 42, *case[1])
    program = model.program()
    got = torch.cat([teacher_forced(program, part, {}, "native") for part in x.split(batch)])
    plain = model(x)
    assert_as_exact_as_torch(got, plain, model.double()(x), f"{case}, {isa}")


@torch.no_grad()
@pytest.mark.parametrize("case", [("row", (1, 5, 4), 3, 18), ("diagonal", (3, 4, 5), 2, 50)])
def test_the_engine_needs_no_splitting(case, isa):
    """Then gates are added to by products of several taps, not by what lies in memory as they do."""
    model, x = made(case), draw_levels(case[2], 42, *case[1])
    got = teacher_forced(model.program(split=False), x, {}, "native")
    plain = model(x)
    assert_as_exact_as_torch(got, plain, model.double()(x), f"{case}, {isa}")


@torch.no_grad()
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("pixels", [0, 1 << 60], ids=["pixels shared", "rows shared"])
@pytest.mark.parametrize("case", [("row", (1, 5, 6), 3, 40), ("diagonal", (3, 5, 4), 3, 50)])
def test_parameters_are_equal_to_the_bit_for_any_batch_and_threads(case, pixels, threads, monkeypatch):
    """Threads share the columns of rows, the outputs of pixels, and the scans of a step."""
    monkeypatch.setattr(incremental, "_SHARED_PRODUCTS", 0)
    monkeypatch.setattr(incremental, "_SHARED_PIXEL_PRODUCTS", pixels)
    program, x = made(case).program(), draw_levels(case[2], 5, *case[1])
    torch.set_num_threads(1)
    alone = torch.cat([teacher_forced(program, part, {}, "native") for part in x.split(1)])
    torch.set_num_threads(threads)
    for batch in (1, 2, 5):
        got = torch.cat([teacher_forced(program, part, {}, "native") for part in x.split(batch)])
        assert torch.equal(got, alone)


@torch.no_grad()
@cases
def test_images_equal_naive_ones(case):
    model = made(case)
    expected = naive(model, 4, seed=3)
    assert torch.equal(sampled(model.program(), 4, 3, "native"), expected)
    assert torch.equal(sampled(model.double().program(), 4, 3, "interpreter"), expected)
    assert len(expected.unique(dim=0)) > 1 or case[1] == (1, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize(("variant", "shape"), [("row", (1, 2, 3)), ("diagonal", (1, 3, 2))])
def test_samples_follow_the_enumerated_distribution(variant, shape):
    model = ToyPixelRNN(shape, 2, variant)
    images = all_images(shape, 2)
    logits = model(images).log_softmax(1)
    expected = logits.gather(1, images).flatten(1).sum(1).double().exp()
    assert expected.sum().item() == pytest.approx(1, abs=1e-5)
    n = 20_000
    place = 2 ** torch.arange(5, -1, -1)
    drawn = sampled(model.program(), n, 5, "native")
    observed = (drawn.flatten(1) * place).sum(1).bincount(minlength=64)
    common = expected * n >= 5
    observed = torch.cat([observed[common], observed[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]]) * n
    test = stats.chisquare(observed.numpy(), expected.numpy(), sum_check=False)
    assert test.pvalue > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_states_outside_the_image_may_be_zero_or_one_vector(variant):
    model = ToyPixelRNN((1, 4, 5), 3, variant, hidden=3).double()
    x = draw_levels(3, 2, 1, 4, 5)

    def outputs(h0: Tensor | None, c0: Tensor | None) -> Tensor:
        """Of the program whose helpers are given these states, and of the model that has them."""
        for scan in (scan for scans in model.scans for scan in scans):
            scan.given = h0, c0
            for own, state in ((scan.h0, h0), (scan.c0, c0)):
                wide = torch.zeros(3).double() if state is None else state
                own.copy_(wide if variant == "diagonal" else wide[:, None])
        got = teacher_forced(model.program(), x, {}, "interpreter")
        torch.testing.assert_close(got, model(x), rtol=0, atol=1e-10)
        return got

    h0, c0 = torch.full((3,), 0.8).double(), torch.tensor([2.0, -1, 0.5]).double()
    different = [outputs(*states) for states in ((None, None), (h0, None), (None, c0), (h0, c0))]
    for a, b in itertools.combinations(different, 2):
        assert (a - b).abs().max() > 1e-2
