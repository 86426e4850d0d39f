"""row_lstm and diagonal_lstm: their cases."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from specs.base import COMMON, Bad, Case, OpSpec, Registered, ones
from torch import Tensor

from genfast.ops.lstm_scan_native import DIAGONAL, DIAGONAL_REVERSED, ROW

TAPS = {"row_lstm": 3, "diagonal_lstm": 2}


def recurrent_weight(shape: tuple[int, ...], **options: Any) -> Tensor:
    """Of the size that nn.LSTM starts with: a larger one makes the recurrence chaotic."""
    return torch.randn(shape, **options) * (0.5 / max(shape[1], 1) ** 0.5)


def shapes(
    name: str, n: int, hidden: int, height: int, width: int, states: str = ""
) -> tuple[tuple[int, ...] | None, ...]:
    """Of gates, weight, h0, c0; states: "" (none), "shared" (h,), "whole", or "c0" alone."""
    whole = (hidden, width) if name == "row_lstm" else (height, hidden)
    state = {"": None, "c0": None, "shared": (hidden,), "whole": whole}[states]
    cell = (hidden,) if states == "c0" else state
    return (n, 4 * hidden, height, width), (4 * hidden, hidden, TAPS[name]), state, cell


def _draw(name: str) -> st.SearchStrategy[Case]:
    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        n, hidden = draw(st.integers(0, 3)), draw(st.integers(1, 20))
        height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        states = draw(st.sampled_from(["", "shared", "whole", "c0"]))
        keywords: dict[str, Any] = {"saved": draw(st.sampled_from(["minimal", "all"]))}
        if name == "diagonal_lstm":
            keywords["reverse"] = draw(st.booleans())
        return Case("drawn", shapes(name, n, hidden, height, width, states), keywords)

    return drawn()


def _bad(name: str) -> tuple[Bad, ...]:
    taps = TAPS[name]
    g, w = ones(2, 12, 4, 5), ones(12, 3, taps)
    whole, wrong = ("(3, 5)", ones(5, 3)) if name == "row_lstm" else ("(4, 3)", ones(3, 4))
    return (
        Bad("gates_type", lambda op: op([1.0], w), TypeError, ("gates must be", "list")),
        Bad("gates_integer", lambda op: op(g.long(), w), TypeError, ("gates ", "torch.int64")),
        Bad("gates_dims", lambda op: op(g[0], w), ValueError, ("gates ", "4 dim", "(12, 4, 5)")),
        Bad("gates_channels", lambda op: op(g[:, :10], w), ValueError, ("gates ", "4h", "(2, 10")),
        Bad("gates_none", lambda op: op(g[:, :0], w), ValueError, ("gates ", "(2, 0, 4, 5)")),
        Bad("weight_type", lambda op: op(g, 1.0), TypeError, ("weight must be", "float")),
        Bad("weight_dims", lambda op: op(g, w[..., None]), ValueError, ("weight ", "3 dim")),
        Bad(
            "weight_taps", lambda op: op(g, ones(12, 3, 5 - taps)),
            ValueError, ("weight ", f"(12, 3, {taps})", f"(12, 3, {5 - taps})"),
        ),
        Bad("weight_hidden", lambda op: op(g, ones(12, 4, taps)), ValueError, ("weight ", "(12, 4")),
        Bad(
            "weight_dtype", lambda op: op(g, w.double()),
            TypeError, ("weight ", "torch.float64", "torch.float32"),
        ),
        Bad("weight_device", lambda op: op(g, w.to("meta")), ValueError, ("weight ", "meta", "cpu")),
        Bad("h0_type", lambda op: op(g, w, 0.0), TypeError, ("h0 must be", "float")),
        Bad("h0_shape", lambda op: op(g, w, wrong), ValueError, ("h0 ", "(3,)", whole)),
        Bad("h0_long", lambda op: op(g, w, ones(4)), ValueError, ("h0 ", "(3,)", "(4,)")),
        Bad(
            "c0_dtype", lambda op: op(g, w, None, ones(3).double()),
            TypeError, ("c0 ", "torch.float64"),
        ),
        Bad("c0_batched", lambda op: op(g, w, None, ones(2, 3)), ValueError, ("c0 ", "(2, 3)")),
        Bad("saved", lambda op: op(g, w, saved="some"), ValueError, ("saved ", "minimal", "'some'")),
    )  # fmt: skip


def _registered(scan: str) -> tuple[Registered, ...]:
    """The ops under torch.ops, with arguments made from those of the public function."""

    def states(gates: Tensor, *given: Tensor | None) -> list[Tensor | None]:
        positions = gates.shape[3 if scan == "row_lstm" else 2]

        def state(s: Tensor | None) -> Tensor | None:
            if s is None:
                return None
            if s.ndim == 1:
                return s.expand(positions, -1)
            return s.t() if scan == "row_lstm" else s

        return [state(s) for s in given]

    def code(reverse: bool) -> int:
        return ROW if scan == "row_lstm" else DIAGONAL_REVERSED if reverse else DIAGONAL

    def forward(
        gates: Tensor,
        weight: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        reverse: bool = False,
        saved: str = "minimal",
    ) -> tuple[Any, ...]:
        return gates, weight, *states(gates, h0, c0), code(reverse), saved == "all"

    def backward(*given: Any, **keywords: Any) -> tuple[Any, ...]:
        gates, weight, h0, c0, scan, keep = forward(*given, **keywords)
        hidden, *kept = torch.ops.genfast.lstm_scan(gates, weight, h0, c0, scan, keep)
        return torch.ones_like(hidden), hidden, *kept, gates, weight, h0, c0, scan, [True, True, True]

    return Registered("lstm_scan", forward), Registered("lstm_scan_bwd", backward)


def _spec(name: str, cases: tuple[Case, ...], large: Case, vector: Case) -> OpSpec:
    return OpSpec(
        name=name,
        arguments=("gates", "weight", "h0", "c0"),
        cases=cases,
        large=large,
        vector=vector,
        draw=_draw(name),
        bad=_bad(name),
        claims=COMMON | {"double backward", "ISA levels", "same bits on any threads"},
        empty=Case("empty", shapes(name, 0, 2, 3, 2, "shared")),
        autocast="lower",
        registered=_registered(name),
        fill={"weight": recurrent_weight},
    )


ROW_LSTM = _spec(
    "row_lstm",
    cases=(
        Case("plain", shapes("row_lstm", 2, 2, 3, 2)),
        Case("shared_states", shapes("row_lstm", 2, 2, 2, 3, "shared")),
        Case("whole_states_kept", shapes("row_lstm", 2, 3, 2, 3, "whole"), {"saved": "all"}),
        Case("one_row", shapes("row_lstm", 2, 2, 1, 3, "whole")),
        Case("one_column", shapes("row_lstm", 2, 2, 3, 1)),
    ),
    large=Case("large", shapes("row_lstm", 3, 40, 9, 14, "whole")),
    vector=Case("vector", shapes("row_lstm", 3, 32, 5, 8, "shared")),
)

DIAGONAL_LSTM = _spec(
    "diagonal_lstm",
    cases=(
        Case("plain", shapes("diagonal_lstm", 2, 2, 3, 2)),
        Case("reverse", shapes("diagonal_lstm", 2, 2, 2, 3, "shared"), {"reverse": True}),
        Case("whole_states_kept", shapes("diagonal_lstm", 2, 3, 3, 2, "whole"), {"saved": "all"}),
        Case(
            "reverse_kept",
            shapes("diagonal_lstm", 2, 2, 3, 3, "c0"),
            {"reverse": True, "saved": "all"},
        ),
        Case("one_row", shapes("diagonal_lstm", 2, 2, 1, 3)),
        Case("one_column", shapes("diagonal_lstm", 2, 2, 3, 1, "whole")),
    ),
    large=Case("large", shapes("diagonal_lstm", 3, 40, 9, 14, "whole"), {"reverse": True}),
    vector=Case("vector", shapes("diagonal_lstm", 3, 32, 5, 8, "shared")),
)

SPECS = (ROW_LSTM, DIAGONAL_LSTM)
