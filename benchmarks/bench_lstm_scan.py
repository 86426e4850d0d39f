"""lstm_scan: Row and Diagonal LSTM against PyTorch's ways of writing them.

"eager" is the fair one: steps over an unbound map, one product a step. "indexing" is what ports do,
S[:, :, :, s] at every step, whose backward fills a whole map with zeros each time. "nn.LSTM" is one call
a row, which only the diagonal scan can be written as.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast import ops, reference
from genfast.benchmarks.cases import FORWARD, TRAINING, Bound, Case, Inputs, Side
from genfast.benchmarks.rows import COMPILED, COPY
from genfast.ops.lstm_scan import Saved

SIZE = 28
GRAPH = "eager, CUDA graph"
Scan = Callable[[Tensor, Tensor], Tensor]
REACH = {
    "diagonal_lstm": {FORWARD: {"eager": 8.0}, TRAINING: {"eager": 8.0}},
    "row_lstm": {TRAINING: {"eager": 6.0}},
}


@dataclass(frozen=True)
class Setting:
    batch: int = 16
    hidden: int = 64
    layout: torch.memory_format = torch.contiguous_format
    saved: Saved = "minimal"
    dtype: torch.dtype = torch.float32
    headline: bool = False
    size: int = SIZE
    both: bool = False  # directions of a diagonal scan, as a layer of PixelRNN has them
    later: bool = False

    @property
    def variant(self) -> str:
        layout = "channels-last" if self.layout == torch.channels_last else "NCHW"
        return f"{layout}, saved={self.saved}" + (", both directions" if self.both else "")


CL = torch.channels_last
SETTINGS = (
    Setting(headline=True),
    Setting(layout=CL, headline=True),
    Setting(saved="all"),
    Setting(layout=CL, saved="all"),
    *(Setting(hidden=hidden) for hidden in (16, 32, 128)),
    *(Setting(batch=batch) for batch in (1, 4)),
    Setting(batch=1, layout=CL),
    Setting(dtype=torch.bfloat16, layout=CL),
    Setting(dtype=torch.float16, layout=CL),
)
QUICK = (Setting(headline=True),)
# On a GPU: units whose weights fit into a block's shared memory, and (from 128 in 16 bits) some that do
# not.
BF16 = torch.bfloat16
CUDA_BOTH = (
    *(Setting(batch, 128, CL, dtype=BF16, size=32, both=True, headline=True) for batch in (128, 1, 16)),
    Setting(128, 64, CL, dtype=BF16, size=32, both=True, headline=True),
)
CUDA_SETTINGS = (
    Setting(128, 64, CL, dtype=BF16, headline=True),
    Setting(128, 128, CL, dtype=BF16, size=32, headline=True),
    Setting(128, 64, CL, headline=True),
    Setting(128, 64, CL, dtype=BF16, saved="all", later=True),
    Setting(128, 64, dtype=BF16, later=True),
    *(Setting(batch, 64, CL, dtype=BF16, later=True) for batch in (16, 64, 256)),
    *(Setting(128, hidden, CL, dtype=BF16, later=True) for hidden in (16, 32, 96, 256)),
    Setting(128, 64, CL, dtype=torch.float16, later=True),
    Setting(128, 32, CL, later=True),
)
# On a GPU, of both directions: twice what the model of the kernel takes; on small batches, times as fast
# as the best that PyTorch offers.
REACH_US = {(128, 128): 270.0}
REACH_SMALL = {COMPILED: 3.0, GRAPH: 3.0}
# The mma.sync products of one product of numbers, and the constant of their rate.
TENSOR_CORES = {
    torch.bfloat16: (1, "mma bf16"),
    torch.float16: (1, "mma fp16"),
    torch.float32: (3, "mma tf32"),
}


# ---- how PyTorch code writes them ----------------------------------------------------------------


def _cell(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = a.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _rows(gates: Sequence[Tensor], weight: Tensor) -> Tensor:
    n, channels, width = gates[0].shape
    h = c = gates[0].new_zeros(n, channels // 4, width)
    rows = []
    for z in gates:
        h, c = _cell(z + F.conv1d(h, weight, padding=1), c)
        rows.append(h)
    return torch.stack(rows, 2)


def row_unbound(gates: Tensor, weight: Tensor) -> Tensor:
    return _rows(gates.unbind(2), weight)


def row_indexed(gates: Tensor, weight: Tensor) -> Tensor:
    return _rows([gates[:, :, r] for r in range(gates.shape[2])], weight)


def _skewed(x: Tensor) -> Tensor:
    """Row r moved r columns to the right, by a view of the padded map."""
    n, channels, height, width = x.shape
    steps = height + width - 1
    flat = F.pad(x, (0, height)).reshape(n, channels, -1)
    return flat[..., : height * steps].reshape(n, channels, height, steps)


def _unskewed(x: Tensor, width: int) -> Tensor:
    n, channels, height, steps = x.shape
    flat = F.pad(x.reshape(n, channels, -1), (0, height))
    return flat.reshape(n, channels, height, steps + 1)[..., :width]


def _columns(gates: Sequence[Tensor], weight: Tensor, width: int) -> Tensor:
    """Steps over the columns of a skewed map, one product each.

    Padding left of the map has no state because its gates are zero and every row begins with zero h.
    """
    n, channels, height = gates[0].shape
    both = torch.cat([weight[..., 0], weight[..., 1]], 1)
    h = c = gates[0].new_zeros(n, channels // 4, height)
    columns = []
    for s, z in enumerate(gates):
        x = torch.cat([F.pad(h, (1, -1)), h], 1)
        h, c = _cell(z + both @ x, c)
        if s + 1 < height:  # rows that have not begun see h of the row above in their padding
            started = [height - s - 1]
            h, c = (F.pad(t[..., : s + 1], (0, *started)) for t in (h, c))
        columns.append(h)
    return _unskewed(torch.stack(columns, 3), width)


def diagonal_unbound(gates: Tensor, weight: Tensor) -> Tensor:
    return _columns(_skewed(gates).unbind(3), weight, gates.shape[3])


def diagonal_indexed(gates: Tensor, weight: Tensor) -> Tensor:
    skewed = _skewed(gates)
    columns = [skewed[:, :, :, s] for s in range(skewed.shape[3])]
    return _columns(columns, weight, gates.shape[3])


def diagonal_by_nn_lstm(gates: Tensor, weight: Tensor) -> Tensor:
    """One call a row: W_ih = [U0 | I], W_hh = U1."""
    n, channels, _, width = gates.shape
    hidden = channels // 4
    place = {"dtype": weight.dtype, "device": weight.device}
    lstm = nn.LSTM(hidden + channels, hidden, bias=False, batch_first=True, **place)
    parameters = {
        "weight_ih_l0": torch.cat([weight[..., 0], torch.eye(channels, **place)], 1),
        "weight_hh_l0": weight[..., 1].contiguous(),
    }
    above = gates.new_zeros(n, width, hidden)
    rows = []
    for z in gates.unbind(2):
        x = torch.cat([above, z.transpose(1, 2)], 2)
        above, _ = torch.func.functional_call(lstm, parameters, (x,))
        rows.append(above.transpose(1, 2))
    return torch.stack(rows, 2)


def in_both_directions(scan: Scan) -> Scan:
    """The sum of the scan and of the mirrored one on the mirrored map, by the same weight."""

    def both(gates: Tensor, weight: Tensor) -> Tensor:
        return scan(gates, weight) + scan(gates.flip(3), weight).flip(3)

    return both


def by_genfast(gates: Tensor, weight: Tensor, saved: Saved) -> Tensor:
    """The same without mirrored copies."""
    left = ops.diagonal_lstm(gates, weight, saved=saved)
    return left + ops.diagonal_lstm(gates, weight, saved=saved, reverse=True)


def captured(scan: Scan, gates: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """The forward pass replayed from a CUDA graph: no time of the host's between kernels."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries make their workspaces before the capture
        scan(gates, weight)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = scan(gates, weight)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


# ---- cases ---------------------------------------------------------------------------------------

OTHERS: dict[str, dict[str, Scan]] = {
    "row_lstm": {"eager": row_unbound, "indexing": row_indexed},
    "diagonal_lstm": {
        "eager": diagonal_unbound,
        "indexing": diagonal_indexed,
        "nn.LSTM": diagonal_by_nn_lstm,
    },
}
TAPS = {"row_lstm": 3, "diagonal_lstm": 2}


def lstm_scan(device: str, quick: bool) -> Iterator[Case]:
    if device == "cuda" and not quick:
        for setting in CUDA_BOTH:
            yield _case("diagonal_lstm", device, setting, quick)
    for op in OTHERS:
        if device == "cuda":
            settings = CUDA_SETTINGS[:1] if quick else CUDA_SETTINGS
        else:
            settings = QUICK if quick else SETTINGS
        for setting in settings:
            yield _case(op, device, setting, quick)


def _case(op: str, device: str, setting: Setting, quick: bool) -> Case:
    hidden, pixels = setting.hidden, setting.batch * setting.size**2
    shape = (setting.batch, 4 * hidden, setting.size, setting.size)
    products = 2 * pixels * 4 * hidden * hidden * TAPS[op] * (2 if setting.both else 1)

    def inputs(generator: torch.Generator) -> Inputs:
        gates = torch.randn(shape, generator=generator).to(device, setting.dtype)
        weight = torch.randn(4 * hidden, hidden, TAPS[op], generator=generator) * (0.5 / hidden**0.5)
        return gates.contiguous(memory_format=setting.layout), weight.to(device, setting.dtype)

    sides = {name: Side(scan) for name, scan in OTHERS[op].items()}
    if setting.dtype != torch.float32:  # nn.LSTM in 16 bits is another algorithm again
        sides.pop("nn.LSTM", None)
    reference_scan, own = getattr(reference, op), partial(getattr(ops, op), saved=setting.saved)
    if setting.both:
        sides = {name: Side(in_both_directions(side.fn)) for name, side in sides.items()}
        reference_scan = in_both_directions(reference_scan)
        own = partial(by_genfast, saved=setting.saved)
    sides["genfast"] = Side(own)
    cuda: dict[str, Any] = {}
    if device == "cuda":
        # Pixel by pixel, the reference is launches alone, and in fp64 the eager form is as exact.
        reference_scan = sides["eager"].fn
        del sides["indexing"]
        if setting.both:
            scan = sides["eager"].fn
            sides[GRAPH] = Side(scan, bind=partial(captured, scan), directions=(FORWARD,))
            small = setting.batch < 64
            cuda["reach"] = {FORWARD: REACH_SMALL} if small else {}
            goal = REACH_US.get((setting.batch, hidden))
            cuda["reach_us"] = {} if goal is None else {FORWARD: goal}
        each, rate = TENSOR_CORES[setting.dtype]
        bound = Bound(COPY, each, "the products at the measured mma.sync rate, or a copy", rate)
        maps = pixels * hidden * setting.dtype.itemsize * (2 if setting.both else 1)
        # Read gates, write h; backward reads gates, h and its gradient, and writes those of the gates.
        cuda["bytes"] = {FORWARD: 5 * maps, TRAINING: 15 * maps}
        cuda["bound"] = {FORWARD: bound, TRAINING: bound}
    return Case(
        op="lstm_scan",
        variant=f"{op.removesuffix('_lstm')}, {setting.variant}",
        dtype=setting.dtype,
        shape=shape,
        inputs=inputs,
        sides=sides,
        reference=Side(reference_scan),
        # Compiling an unrolled scan takes minutes, so only where it is to be reached.
        compile=setting.headline and not quick and (device == "cpu" or setting in CUDA_BOTH[:2]),
        # Backward: the gradient of h, that of the weight, and the gates again if they were not kept.
        flops={FORWARD: products, TRAINING: (4 if setting.saved == "minimal" else 3) * products},
        headline=setting.headline and device == "cuda",
        saved=True,
        later=setting.later,
        **(cuda or {"reach": REACH[op] if setting.headline else {}}),
    )


OPS: dict[str, Callable[[str, bool], Iterator[Case]]] = {"lstm_scan": lstm_scan}
