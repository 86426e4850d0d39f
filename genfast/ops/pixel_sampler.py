"""The native engine of pixel programs: checks and addresses around genfast._C.

No torch op: a sampling is a computation with a state that Python drives a few rows at a time, so that
Ctrl-C and a progress bar work. `genfast.sampling.PixelSampler` is the interface.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from genfast import _C

_SEED_BITS = 2**64 - 1


class NativeProgram:
    """A packed program (see `genfast.sampling.packing`), ready to sample on the CPU in fp32.

    Several threads may sample with one at the same time.

    Args:
        code: the program in numbers.
        weights: 1-dim fp32 on the CPU; copied.
        scaled: (levels,) fp32, what the network sees for each level.
    """

    def __init__(self, code: Sequence[int], weights: Tensor, scaled: Tensor) -> None:
        weights = weights.contiguous()
        self._scaled = scaled.float().contiguous()
        self._program = _C.PixelProgram(code, weights.data_ptr(), weights.numel())

    def start(
        self,
        x: Tensor,
        known: Tensor,
        *,
        inputs: Sequence[Tensor | None],
        outputs: Tensor | None,
        seed: int,
        start: int,
        temperature: float,
        tiles: int,
        threads: int,
    ) -> NativeSampling:
        """A sampling of N images before its first row.

        Args:
            x, known: (N, C, H, W), int64 and bool, contiguous, on the CPU.
            inputs: one for each buffer of the program, None where it has none: contiguous fp32,
                (N, H, W, channels) for a map, (N, channels) for a vector.
            outputs: (N, outputs, H, W) fp32, contiguous, or None.
            seed, start, temperature: see `PixelSampler.fill`.
            tiles: parts of the images that are sampled together, at least 1.
            threads: to use; with fewer tiles, several share one.
        """
        tensors = [t for t in (x, known, outputs, *inputs) if t is not None]
        if any(t.device.type != "cpu" or not t.is_contiguous() for t in tensors):
            raise ValueError("the native engine needs contiguous tensors on the CPU")
        addresses = [0 if i is None else i.data_ptr() for i in inputs]
        state = _C.PixelSampling(
            self._program, x.data_ptr(), known.data_ptr(), 0 if outputs is None else outputs.data_ptr(),
            addresses, self._scaled.data_ptr(), len(x), tiles, threads, seed & _SEED_BITS, start,
            temperature,
        )  # fmt: skip
        return NativeSampling(state, [*tensors, self._scaled])


class NativeSampling:
    """Images on their way; holds on to the tensors that it reads and writes."""

    def __init__(self, state: _C.PixelSampling, tensors: list[Tensor]) -> None:
        self._state = state
        self._tensors = tensors

    def run(self, first: int, last: int) -> None:
        """Samples the rows first .. last - 1; rows are sampled in their order, each once."""
        self._state.run(first, last)
