"""The native engine of pixel programs: checks and addresses around genfast._C.

No torch op: a sampling is a computation with a state that Python drives a few rows at a time, so that
Ctrl-C and a progress bar work. `genfast.sampling.PixelSampler` is the interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genfast import _C
from genfast.ops import _native

#: Whether GPUs replay rows from CUDA graphs; tests compare them with single launches.
USE_GRAPHS = True

_SEED_BITS = 2**64 - 1
_ROW_NUMBER = 16  # floats of memory in which a GPU keeps the number of the row


def has_engine(device: torch.device) -> bool:
    """Whether this build has a native engine for tensors on `device`."""
    return _on_cpu(device) or (device.type == "cuda" and bool(_native.CUDA_ARCHITECTURES))


def _on_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


class NativeProgram:
    """A packed program (see `genfast.sampling.packing`), ready to sample in fp32.

    Several threads may sample with one at the same time.

    Args:
        code: the program in numbers.
        weights: 1-dim fp32, on the device to sample on.
        scaled: (levels,) fp32 on that device, what the network sees for each level.
    """

    def __init__(self, code: Sequence[int], weights: Tensor, scaled: Tensor) -> None:
        self._weights, self._scaled = weights.contiguous(), scaled.float().contiguous()
        self._device = weights.device
        copied = weights.numel() if _on_cpu(self._device) else 0
        self._program = _C.PixelProgram(code, self._weights.data_ptr(), copied)

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
        share_pixels: bool,
    ) -> Callable[[int, int], None]:
        """Begins to sample N images; rows are sampled in their order by calling the result.

        Args:
            x, known: (N, C, H, W), int64 and bool, contiguous.
            inputs: one for each buffer of the program, None where it has none: contiguous fp32,
                (N, H, W, channels) for a map, (N, channels) for a vector.
            outputs: (N, outputs, H, W) fp32, contiguous, or None.
            seed, start, temperature: see `PixelSampler.fill`.
            tiles: on the CPU, parts of the images that are sampled together, at least 1.
            threads: on the CPU, threads to use; with fewer tiles, several share one.
            share_pixels: whether they then share the products at pixels too, not only those of rows.

        Returns:
            What samples the rows from its first argument to before its second. It keeps the tensors
            alive; on a GPU it does not wait for them to be filled.
        """
        tensors = [t for t in (x, known, outputs, *inputs) if t is not None]
        if any(t.device != self._device or not t.is_contiguous() for t in tensors):
            raise ValueError(f"the native engine needs contiguous tensors on {self._device}")
        images = _C.PixelImages(
            x.data_ptr(), known.data_ptr(), 0 if outputs is None else outputs.data_ptr(),
            [0 if i is None else i.data_ptr() for i in inputs], self._scaled.data_ptr(),
            seed & _SEED_BITS, start, temperature,
        )  # fmt: skip
        if not _on_cpu(self._device):
            return self._on_gpu(images, len(x), tensors)
        state = _C.PixelSampling(self._program, images, len(x), tiles, threads, share_pixels)

        def run(first: int, last: int, alive: object = (self, tensors)) -> None:
            state.run(first, last)

        return run

    def _on_gpu(
        self, images: _C.PixelImages, n: int, tensors: list[Tensor]
    ) -> Callable[[int, int], None]:
        memory = torch.zeros(n * self._program.floats + _ROW_NUMBER, device=self._device)
        state = _C.PixelCudaSampling(self._program, images, memory.data_ptr(), n, USE_GRAPHS)

        def run(first: int, last: int, alive: object = (self, tensors)) -> None:
            state.run(first, last, *_native.device_and_stream(memory))

        return run
