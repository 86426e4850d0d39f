"""Wrong kernels are caught by the emulation of CUDA, each in the way stated here.

The kernels are in csrc/emulation/tests/faulty.cu, by the same names.
"""

from __future__ import annotations

import re
from types import ModuleType

import pytest
import torch
from emulation_kernels import SCHEDULES, SOURCE, kernels_module, run_program
from torch import Tensor


@pytest.fixture(scope="module")
def emulator() -> ModuleType:
    return kernels_module()


#: Stopped under every schedule, by an error that names the line.
STOPPED = {
    "copy_never_waited_for": "copy that was never waited for",
    "copy_misaligned": "misaligned address: not a multiple of 16",
    "divergent_barrier": "divergent barrier",
    "divergent_grid_sync": "divergent grid_sync",
    "divergent_shuffle": "divergent warp operation",
    "deadlock": "deadlock",
    "livelock": "livelock",
    "bad_mask": "mask without the calling lane",
    "mma_in_partial_warp": "tensor core operation in a partial warp",
    "misaligned_ldmatrix": "misaligned address: not a multiple of 16",
    "trap": "trap",
    "static_and_dynamic_shared_memory": "more shared memory, 57344 bytes, than the 49152",
}
#: Refused before a thread runs.
REFUSED = {
    "too_many_threads": "1025 x 1 x 1 threads a block",
    "no_blocks": "a grid of 0 x 1 x 1",
    "too_much_shared_memory": "233472 bytes of dynamic shared memory, at most 232448",
    "too_many_cooperative_blocks": "1000 blocks, at most 132",
}
#: Results that depend on the schedule.
DIFFERING = (
    "missing_syncthreads",
    "missing_syncwarp",
    "missing_second_barrier",
    "write_race",
    "block_race",
    "copy_read_before_wait",
    "copy_over_data_in_use",
)
#: NaN under every schedule.
NAN = ("uninitialised_shared", "shuffle_from_returned_lane", "dynamic_shared_overrun")
#: Reported by AddressSanitizer or UBSan.
OUT_OF_BOUNDS = {
    "dynamic_shared_overrun": "AddressSanitizer: use-after-poison",
    "static_shared_overrun": "AddressSanitizer: heap-buffer-overflow",
    "global_overrun": "AddressSanitizer: heap-buffer-overflow",
    "local_overrun": "runtime error: index [89] out of bounds",
    "misaligned_float4": "runtime error: .* misaligned address",
    "copy_overrun": "AddressSanitizer: heap-buffer-overflow",
}
#: Reported by ThreadSanitizer.
RACES = (
    "missing_syncthreads",
    "missing_syncwarp",
    "shuffle_for_syncwarp",
    "missing_second_barrier",
    "write_race",
    "block_race",
    "flag_without_release",
    "copy_over_data_in_use",
)


def run_faulty(emulator: ModuleType, name: str) -> Tensor:
    values = torch.arange(emulator.FAULTY_VALUES, dtype=torch.float32)
    if name in ("divergent_grid_sync", "grid_sync_without_cooperation", "livelock"):
        values.zero_()  # it holds a barrier or a flag
    emulator.run_faulty(name, values.data_ptr())
    return values


def lines_of_kernel(name: str) -> range:
    """The lines of a kernel in faulty.cu."""
    lines = (SOURCE / "tests" / "faulty.cu").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if re.search(rf"void {name}\(", line))
    last = next(i for i in range(first, len(lines)) if lines[i].endswith("}") and lines[i][0] in "}_")
    return range(first + 1, last + 2)


def test_every_wrong_kernel_has_its_test(emulator: ModuleType) -> None:
    tested = {
        *STOPPED,
        *REFUSED,
        *DIFFERING,
        *NAN,
        *OUT_OF_BOUNDS,
        *RACES,
        "grid_sync_without_cooperation",
    }
    assert tested == set(emulator.faulty_names())


@pytest.mark.parametrize(("order", "seed"), SCHEDULES)
@pytest.mark.parametrize("name", STOPPED)
def test_stopped_with_the_line(emulator: ModuleType, name: str, order: str, seed: int) -> None:
    emulator.configure(order, seed)
    with pytest.raises(emulator.EmulatorError, match=STOPPED[name]) as caught:
        run_faulty(emulator, name)
    found = re.search(
        r"block \(\d+,0,0\) thread \(\d+,0,0\).* at \S*faulty\.cu:(\d+)", str(caught.value)
    )
    assert found is not None
    assert int(found[1]) in lines_of_kernel(name)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_launches(emulator: ModuleType, name: str) -> None:
    with pytest.raises(emulator.EmulatorError, match=re.escape(REFUSED[name])):
        run_faulty(emulator, name)


def test_grid_sync_needs_a_cooperative_launch(emulator: ModuleType) -> None:
    with pytest.raises(emulator.EmulatorError, match=r"not cooperative: .*faulty\.cu:\d+"):
        run_faulty(emulator, "grid_sync_without_cooperation")


@pytest.mark.parametrize("name", DIFFERING)
def test_results_differ_between_schedules(emulator: ModuleType, name: str) -> None:
    results = set()
    for order, seed in SCHEDULES:
        emulator.configure(order, seed)
        results.add(run_faulty(emulator, name).numpy().tobytes())
    assert len(results) > 1


@pytest.mark.parametrize(("order", "seed"), SCHEDULES)
@pytest.mark.parametrize("name", NAN)
def test_nan_in_the_result(emulator: ModuleType, name: str, order: str, seed: int) -> None:
    emulator.configure(order, seed)
    assert run_faulty(emulator, name).isnan().any()


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_reported_by_address_or_undefined_sanitizer(emulator: ModuleType, name: str) -> None:
    ended = run_program("asan", "faulty", name, "forward", "0")
    assert ended.returncode not in (0, 3)
    assert re.search(OUT_OF_BOUNDS[name], ended.stderr)
    assert "faulty.cu" in ended.stderr


@pytest.mark.parametrize("name", RACES)
def test_reported_by_thread_sanitizer(emulator: ModuleType, name: str) -> None:
    ended = run_program("tsan", "faulty", name, "forward", "0")
    assert ended.returncode not in (0, 3)
    assert re.search(r"ThreadSanitizer: data race", ended.stderr)
    assert "faulty.cu" in ended.stderr


def test_usable_after_an_error(emulator: ModuleType) -> None:
    emulator.configure("forward")
    with pytest.raises(emulator.EmulatorError, match="deadlock"):
        run_faulty(emulator, "deadlock")
    assert run_faulty(emulator, "write_race")[0] == 63
