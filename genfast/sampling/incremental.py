"""Running pixel programs: which engine, batch by batch, a few rows at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from genfast.reference.pixel_sampler import PixelInterpreter
from genfast.sampling.philox import uniforms
from genfast.sampling.program import Program

Engine = Literal["native", "interpreter"]

_SECONDS_A_CHUNK = 0.1  # an interrupt waits no longer, unless one row takes longer


class PixelSampler:
    """A pixel program, ready to sample.

    Args:
        program: what to run.
        engine: "interpreter" runs the program in plain PyTorch, in the dtype and on the device of its
            weights.

    >>> import torch, genfast
    >>> from genfast.sampling import PixelSampler
    >>> program = genfast.models.GatedPixelCNN((1, 4, 4), levels=2, channels=4, layers=1).pixel_program()
    >>> x = torch.zeros(3, 1, 4, 4, dtype=torch.int64)
    >>> PixelSampler(program).fill(x, torch.zeros_like(x, dtype=torch.bool), seed=1)
    """

    def __init__(self, program: Program, engine: Engine | None = None) -> None:
        self.program = program
        self.engine: Engine = engine or "interpreter"

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        seed: int = 0,
        start: int = 0,
        temperature: float = 1.0,
        inputs: Mapping[str, Tensor] | None = None,
        outputs: Tensor | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Draws the values of `x` that are not known, in place.

        Args:
            x: (N, C, H, W) int64 levels.
            known: (N, C, H, W) bool: values to keep.
            seed, start: key of the draws, see `uniforms`; `start` is the number of the first image.
            temperature: divides logits and multiplies the scales of logistic distributions.
            inputs: the program's inputs by name, (N, channels, H, W) or (N, channels).
            outputs: (N, program.outputs, H, W); if given, filled with the parameters of every draw.
            progress: called with the number of pixels (of all images together) done since the last call.
        """
        _check_inputs(self.program, len(x), inputs or {})
        if not len(x):
            return
        _, height, width = self.program.image_shape
        numbers = torch.arange(start, start + len(x), device=x.device)

        def row_uniforms(row: int) -> Tensor:
            pixels = torch.arange(row * width, (row + 1) * width, device=x.device)
            return uniforms(seed, numbers, pixels[:, None], self.program.draws)

        run = PixelInterpreter(
            self.program, x, known, row_uniforms,
            inputs=inputs, temperature=temperature, outputs=outputs,
        )  # fmt: skip
        _run_rows(run.run, height, lambda rows: progress and progress(rows * width))


def _run_rows(run: Callable[[int, int], None], height: int, done: Callable[[int], object]) -> None:
    """All rows, in chunks short enough that an interrupt or a progress bar need not wait."""
    row, rows = 0, 1
    while row < height:
        began = time.perf_counter()
        last = min(row + rows, height)
        run(row, last)
        done(last - row)
        row = last
        rows = 2 * rows if time.perf_counter() - began < _SECONDS_A_CHUNK / 2 else 1


def _check_inputs(program: Program, n: int, inputs: Mapping[str, Tensor]) -> None:
    wanted = program.inputs
    if wanted.keys() != inputs.keys():
        raise ValueError(f"inputs must be {sorted(wanted)}, got {sorted(inputs)}")
    for name, buffer in wanted.items():
        size = program.image_shape[1:] if buffer.source == "map" else ()
        if tuple(inputs[name].shape) != (n, buffer.channels, *size):
            raise ValueError(
                f"input {name} must have shape {(n, buffer.channels, *size)}, "
                f"got {tuple(inputs[name].shape)}"
            )
