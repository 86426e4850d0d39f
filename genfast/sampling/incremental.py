"""Running pixel programs: which engine, batch by batch, a few rows at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from genfast.ops.pixel_sampler import NativeProgram, has_engine
from genfast.reference.pixel_sampler import PixelInterpreter
from genfast.sampling.packing import PackedProgram
from genfast.sampling.philox import uniforms
from genfast.sampling.program import Buffer, Program

Engine = Literal["native", "interpreter"]

Run = Callable[[int, int], None]  # samples the rows from the first to before the last

_TILE = 8  # images that a thread samples together, at most: more make the rows outgrow its cache
# Multiplications a row from which several threads share a tile: they wait for one another at every
# instruction, which has to pay, and on a busy machine costs much more than it can gain.
_SHARED_PRODUCTS = 16 << 20
# Multiplications a pixel from which they share those too. They meet some 20 to 60 times a pixel, a
# fraction of a microsecond each: with 64 channels (150 thousand multiplications) two threads gained a
# fourteenth, too little for what it costs on a busy machine, with 128 (750 thousand) a fifth at best.
_SHARED_PIXEL_PRODUCTS = 256 << 10
_SECONDS_A_CHUNK = 0.1  # an interrupt waits no longer, unless one row takes longer


class PixelSampler:
    """A pixel program, packed for the engine that runs it.

    Args:
        program: what to run.
        engine: "native" computes in fp32 whatever the weights' dtype; "interpreter" is plain PyTorch, in
            the dtype of the weights. None chooses "native" unless the weights are fp64, or on a GPU for
            which this build has no code.

    >>> import torch, genfast
    >>> from genfast.sampling import PixelSampler
    >>> program = genfast.models.GatedPixelCNN((1, 4, 4), levels=2, channels=4, layers=1).pixel_program()
    >>> x = torch.zeros(3, 1, 4, 4, dtype=torch.int64)
    >>> PixelSampler(program).fill(x, torch.zeros_like(x, dtype=torch.bool), seed=1)
    """

    def __init__(self, program: Program, engine: Engine | None = None) -> None:
        self.program = program
        weight = program.weights[0]
        native = has_engine(weight.device) and weight.dtype != torch.float64
        self.engine: Engine = engine or ("native" if native else "interpreter")
        if self.engine == "native":
            packed = PackedProgram(program)
            self._native = NativeProgram(packed.code, packed.weights.to(weight.device), self._scaled())

    def _scaled(self) -> Tensor:
        """What the network sees for each level."""
        weight = self.program.weights[0]
        exact = torch.promote_types(weight.dtype, torch.float32)
        levels = torch.arange(self.program.levels, device=weight.device)
        return (levels.to(exact) * (2 / (self.program.levels - 1)) - 1).to(weight.dtype)

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

        An interrupt leaves `x` with the rows that were done, and the sampler as it was.

        Args:
            x: (N, C, H, W) int64 levels, contiguous, on the device of the weights.
            known: (N, C, H, W) bool: values to keep.
            seed, start: key of the draws, see `uniforms`; `start` is the number of the first image.
            temperature: divides logits and multiplies the scales of logistic distributions.
            inputs: the program's inputs by name, (N, channels, H, W) or (N, channels).
            outputs: (N, program.outputs, H, W); if given, filled with the parameters of every draw.
            progress: called with the number of pixels (of all images together) done since the last call.
        """
        inputs, known = inputs or {}, known.contiguous()
        _check_inputs(self.program, len(x), inputs)
        _, height, width = self.program.image_shape
        threads = torch.get_num_threads()
        on_cpu = self.engine == "native" and x.device.type == "cpu"
        for images in _batches(len(x), threads * _TILE if on_cpu else len(x)):
            run = self._start(
                x[images], known[images], seed, start + images.start, temperature,
                {name: value[images] for name, value in inputs.items()},
                None if outputs is None else outputs[images],
            )  # fmt: skip
            for rows in _run_rows(run, height):
                if progress is not None:
                    progress(rows * width * (images.stop - images.start))

    def _start(
        self,
        x: Tensor,
        known: Tensor,
        seed: int,
        start: int,
        temperature: float,
        inputs: Mapping[str, Tensor],
        outputs: Tensor | None,
    ) -> Run:
        """What samples some rows of some images."""
        if self.engine == "native":
            threads = torch.get_num_threads()
            tiles = min(len(x), threads)
            a_tile = len(x) // tiles
            share_pixels = self.program.pixel_products * a_tile >= _SHARED_PIXEL_PRODUCTS
            shared = share_pixels or self.program.row_products * a_tile >= _SHARED_PRODUCTS
            return self._native.start(
                x, known, inputs=self._in_memory(inputs), outputs=outputs,
                seed=seed, start=start, temperature=temperature,
                tiles=tiles, threads=threads if shared else tiles,
                share_pixels=share_pixels,
            )  # fmt: skip
        width = self.program.image_shape[2]
        numbers = torch.arange(start, start + len(x), device=x.device)

        def row_uniforms(row: int) -> Tensor:
            pixels = torch.arange(row * width, (row + 1) * width, device=x.device)
            return uniforms(seed, numbers, pixels[:, None], self.program.draws)

        return PixelInterpreter(
            self.program, x, known, row_uniforms,
            inputs=inputs, temperature=temperature, outputs=outputs,
        ).run  # fmt: skip

    def _in_memory(self, inputs: Mapping[str, Tensor]) -> list[Tensor | None]:
        """The inputs of all buffers, channels last."""

        def one(buffer: Buffer) -> Tensor | None:
            if buffer.source not in ("map", "vector"):
                return None
            return inputs[buffer.name].detach().float().movedim(1, -1).contiguous()

        return [one(buffer) for buffer in self.program.buffers]


def _batches(n: int, largest: int) -> list[slice]:
    """0 .. n - 1 in as few parts of nearly equal size as there can be."""
    parts = -(-n // max(1, largest))
    return [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


def _run_rows(run: Run, height: int) -> Iterator[int]:
    """Runs all rows, in chunks short enough that an interrupt or a progress bar need not wait."""
    row, rows = 0, 1
    while row < height:
        began = time.perf_counter()
        last = min(row + rows, height)
        run(row, last)
        yield last - row
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
