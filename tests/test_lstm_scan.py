"""row_lstm and diagonal_lstm beyond what test_ops*.py asks of every op."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks import forward_backward
from specs.lstm_scan import DIAGONAL_LSTM, ROW_LSTM, recurrent_weight, shapes
from torch import Tensor, nn

import genfast
from genfast import _C
from genfast.ops import diagonal_lstm, row_lstm
from genfast.ops.lstm_scan_native import DIAGONAL, DIAGONAL_REVERSED, ROW
from genfast.reference import reorder_gates

SIZES = ((5, 9), (9, 5), (1, 7), (7, 1), (1, 1))
STATES = ("", "shared", "whole")


def inputs(
    name: str, n: int, hidden: int, size: tuple[int, int], states: str, dtype: torch.dtype
) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    made: list[Tensor | None] = []
    for i, shape in enumerate(shapes(name, n, hidden, *size, states)):
        fill = recurrent_weight if i == 1 else torch.randn
        made.append(None if shape is None else fill(shape, generator=generator).to(dtype))
    return made


# ---- the normative oracle: weight-shared nn.LSTM calls, one a row ----------------------------------


def rows_of_nn_lstm(
    gates: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    reverse: bool = False,
) -> Tensor:
    """A diagonal LSTM as one nn.LSTM over each row, whose input is the row above beside the gates.

    W_ih = [U0 | I], W_hh = U1. No diagonal and no skew is in it.
    """
    if reverse:
        return rows_of_nn_lstm(gates.flip(3), weight, h0, c0).flip(3)
    n, channels, height, width = gates.shape
    hidden = channels // 4
    eye = torch.eye(channels, dtype=gates.dtype)
    lstm = nn.LSTM(hidden + channels, hidden, bias=False, batch_first=True, dtype=gates.dtype)
    parameters = {
        "weight_ih_l0": torch.cat([weight[..., 0], eye], 1),
        "weight_hh_l0": weight[..., 1].contiguous(),
    }

    def state(s: Tensor | None, r: int) -> Tensor:
        row = gates.new_zeros(hidden) if s is None else s if s.ndim == 1 else s[r]
        return row.expand(1, n, hidden).contiguous()

    above = gates.new_zeros(n, width, hidden)
    rows = []
    for r in range(height):
        x = torch.cat([above, gates[:, :, r].transpose(1, 2)], 2)
        start = (state(h0, r), state(c0, r))
        above, _ = torch.func.functional_call(lstm, parameters, (x, start))
        rows.append(above.transpose(1, 2))
    return torch.stack(rows, 2)


@pytest.mark.parametrize("saved", ["minimal", "all"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_diagonal_is_one_lstm_a_row(
    size: tuple[int, int], states: str, reverse: bool, saved: str, isa: str
) -> None:
    tensors = inputs("diagonal_lstm", 2, 21, size, states, torch.float64)
    wanted = [i for i, t in enumerate(tensors) if t is not None]
    keywords: dict[str, Any] = {"reverse": reverse}
    exact = forward_backward(rows_of_nn_lstm, tensors, keywords, wanted)
    got = forward_backward(diagonal_lstm, tensors, {**keywords, "saved": saved}, wanted)
    for mine, true in zip(got, exact, strict=True):
        assert (mine - true).abs().max() <= 1e-12


def steps_of_lstm_cell(
    gates: Tensor, weight: Tensor, h0: Tensor | None = None, c0: Tensor | None = None
) -> Tensor:
    """A row LSTM as one nn.LSTMCell over all columns of a row; its input is what the row above gives."""
    n, channels, height, width = gates.shape
    hidden = channels // 4
    cell = nn.LSTMCell(channels, hidden, bias=False, dtype=gates.dtype)
    parameters = {
        "weight_ih": torch.eye(channels, dtype=gates.dtype),
        "weight_hh": gates.new_zeros(channels, hidden),
    }

    def state(s: Tensor | None) -> Tensor:
        row = gates.new_zeros(hidden, width) if s is None else s if s.ndim == 2 else s[:, None]
        return row.expand(n, hidden, width)

    def flat(t: Tensor) -> Tensor:
        return t.transpose(1, 2).reshape(n * width, -1)

    h, c = state(h0), flat(state(c0))
    rows = []
    for r in range(height):
        a = gates[:, :, r] + nn.functional.conv1d(h, weight, padding=1)
        new, c = torch.func.functional_call(cell, parameters, (flat(a), (flat(h), c)))
        h = new.view(n, width, hidden).transpose(1, 2)
        rows.append(h)
    return torch.stack(rows, 2)


@pytest.mark.parametrize("saved", ["minimal", "all"])
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_row_is_an_lstm_cell_and_a_convolution(
    size: tuple[int, int], states: str, saved: str, isa: str
) -> None:
    tensors = inputs("row_lstm", 2, 21, size, states, torch.float64)
    wanted = [i for i, t in enumerate(tensors) if t is not None]
    exact = forward_backward(steps_of_lstm_cell, tensors, {}, wanted)
    got = forward_backward(row_lstm, tensors, {"saved": saved}, wanted)
    for mine, true in zip(got, exact, strict=True):
        assert (mine - true).abs().max() <= 1e-12


# ---- sizes and modes -----------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
@pytest.mark.parametrize("hidden", [1, 16, 31, 32, 50, 64, 96, 128, 200, 512])
def test_any_hidden_size(spec: Any, hidden: int, isa: str) -> None:
    tensors = inputs(spec.name, 2, hidden, (3, 4), "shared", torch.float32)
    exact_inputs = [None if t is None else t.double() for t in tensors]
    exact = forward_backward(spec.reference, exact_inputs, {}, [0, 1, 2, 3])
    for mine, true in zip(forward_backward(spec.op, tensors, {}, [0, 1, 2, 3]), exact, strict=True):
        assert (mine - true).abs().max() <= 3e-6 * (1 + true.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
def test_saved_modes_give_the_same_bits(
    spec: Any, channels_last: bool, dtype: torch.dtype, isa: str
) -> None:
    for hidden in (16, 20):
        tensors = inputs(spec.name, 2, hidden, (6, 11), "whole", dtype)
        if channels_last:
            tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
        minimal, everything = (
            forward_backward(spec.op, tensors, {"saved": saved}, [0, 1, 2, 3])
            for saved in ("minimal", "all")
        )
        for a, b in zip(minimal, everything, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("saved", ["minimal", "all"])
@pytest.mark.parametrize("hidden", [8, 40])
@pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
def test_threads_that_share_an_image(spec: Any, hidden: int, saved: str) -> None:
    """Fewer images than threads: the same bits from teams of any size, idle members included."""
    channels_last = torch.channels_last
    threads = torch.get_num_threads()
    try:
        for n, layout in ((1, torch.contiguous_format), (1, channels_last), (2, channels_last)):
            tensors = inputs(spec.name, n, hidden, (5, 4), "whole", torch.float32)
            tensors[0] = tensors[0].to(memory_format=layout)
            alone: list[Tensor] = []
            for number in (1, 2, 3, 5, 7):
                torch.set_num_threads(number)
                got = forward_backward(spec.op, tensors, {"saved": saved}, [0, 1, 2, 3])
                alone = alone or got
                assert all(torch.equal(a, b) for a, b in zip(alone, got, strict=True)), number
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("spec", [ROW_LSTM, DIAGONAL_LSTM], ids=lambda spec: spec.name)
def test_what_is_saved(spec: Any) -> None:
    """minimal: the inputs and the hidden states; all: gates and cell states in fp32 too."""
    n, hidden, height, width = 2, 8, 5, 6
    tensors = inputs(spec.name, n, hidden, (height, width), "", torch.bfloat16)
    pixels = n * height * width
    inputs_saved = 4 * hidden * pixels * 2 + tensors[1].numel() * 2
    for saved, extra in (("minimal", 0), ("all", 5 * hidden * pixels * 4)):
        held: dict[int, int] = {}

        def pack(t: Tensor, held: dict[int, int] = held) -> Tensor:
            held[t.data_ptr()] = t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            spec.op(tensors[0].requires_grad_(), tensors[1].requires_grad_(), saved=saved)
        assert sum(held.values()) == inputs_saved + hidden * pixels * 2 + extra


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("scan", [ROW, DIAGONAL, DIAGONAL_REVERSED])
def test_the_workspace_is_that_of_the_images_at_work(scan: int, backward: bool) -> None:
    """One image a thread, of its own size and a border: nothing is as wide as a skewed map.

    Backward has sums for the gradients of the parameters besides, of at most 32 shares of the images.
    """
    hidden, height, width, taps = 16, 40, 50, 3

    def elements(images: int, threads: int) -> int:
        options = (0, scan, 1, images, hidden, height, width)
        return _C.lstm_scan_workspace(options, backward, threads)

    size = (taps if scan == ROW else 2) * 4 * hidden**2 + 2 * (width if scan == ROW else height) * hidden
    sums = size if backward else 0
    assert elements(100, 1) == elements(1, 1) + 31 * sums
    assert elements(100, 2) == elements(2, 2) + 30 * sums
    image = elements(2, 2) - elements(1, 1) - sums
    gates, maps = 4 * hidden + 16, (3 if backward else 2) * hidden
    assert image <= (height + 2) * (width + 2) * (gates + maps) + max(height, width) * hidden
    assert image < height * (height + width - 1) * (gates + maps)
    assert elements(1, 1) - image <= 3 * taps * 4 * hidden**2 + 2 * max(height, width) * hidden


def test_reorder_gates_keeps_the_function() -> None:
    """A port whose gates stand in the order o, f, i, g: its weights converted give its result."""
    gates, weight, *_ = inputs("diagonal_lstm", 2, 6, (3, 4), "", torch.float64)
    assert gates is not None
    assert weight is not None

    def as_ofig(t: Tensor, dim: int) -> Tensor:
        i, f, g, o = t.chunk(4, dim)
        return torch.cat([o, f, i, g], dim)

    theirs = as_ofig(gates, 1), as_ofig(weight, 0)
    got = diagonal_lstm(reorder_gates(theirs[0], "ofig", 1), reorder_gates(theirs[1], "ofig"))
    assert torch.equal(got, diagonal_lstm(gates, weight))
    with pytest.raises(ValueError, match=r"order .*'ofgg'"):
        reorder_gates(weight, "ofgg")


# ---- modules -------------------------------------------------------------------------------------


def test_bilstm_moves_the_right_map_down() -> None:
    torch.manual_seed(0)
    layer = genfast.nn.DiagonalBiLSTM(4, 6)
    x = torch.randn(2, 4, 5, 7)
    y, left, right = layer(x), layer.left(x), layer.right(x)
    torch.testing.assert_close(y[:, :, 0], left[:, :, 0])
    torch.testing.assert_close(y[:, :, 1:], left[:, :, 1:] + right[:, :, :-1])


@pytest.mark.parametrize("learned", [False, True])
def test_modules_learn_every_parameter(learned: bool) -> None:
    for make in (genfast.nn.RowLSTM, genfast.nn.DiagonalLSTM, genfast.nn.DiagonalBiLSTM):
        layer = make(4, 6, learned_init=learned)
        assert any(key.endswith("h0") for key in layer.state_dict()) == learned
        layer(torch.randn(2, 4, 3, 5)).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
