"""Settings of the whole test suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

from genfast import _C

if TYPE_CHECKING:
    from genfast.training import Trainer

# The same examples in every run, in CI and at a desk: a red test can be run again and stays red.
# GENFAST_HYPOTHESIS=explore looks for new ones.
hypothesis.settings.register_profile("fixed", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("GENFAST_HYPOTHESIS", "fixed"))

# Inductor's caches of compiled graphs know an op by its name and arguments, not by its fake kernel:
# after a change of what an op keeps for its backward they would hand out code for the old shapes.
os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "0")
os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "0")

# Small tensors, so one thread, in fixtures of every scope too: the last bits of a convolution's gradient
# depend on the number of threads.
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a CUDA device there are no CUDA tests: they are deselected, rather than skipped.

    With --collect-only they are listed all the same.
    """
    if torch.cuda.is_available() or config.option.collectonly:
        return
    cuda = [item for item in items if item.get_closest_marker("cuda")]
    config.hook.pytest_deselected(items=cuda)
    items[:] = [item for item in items if item not in cuda]


@pytest.fixture(params=_C.runnable_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test at every instruction-set level that this CPU has."""
    before = _C.current_isa()
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa(before)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where CUDA kernels run: emulated, on tensors of the CPU, and on a GPU where one is."""
    if request.param == "cuda":
        yield "cuda"
        return
    from emulated import emulation  # needs what builds the module

    with emulation() as module:
        module.configure("random", 3)
        yield "cpu"
        module.configure("forward", 0)


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    """A test that wants more threads sets them; they are put back."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def subnormal_numbers_kept() -> None:
    """Code that inductor of torch 2.4 compiles is linked so that loading it flushes them to zero."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of training that nothing interrupted."""
    from training_runs import start  # the op tests of a wheel do without what training needs

    trainer = start(tmp_path_factory.mktemp("whole"))
    assert trainer.run()
    return trainer


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory is full of NaN, so that an element nobody writes shows."""
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        plain = getattr(owner, name)

        def full_of_nan(*args: object, plain=plain, **keywords: object) -> torch.Tensor:
            memory = plain(*args, **keywords)
            return memory.fill_(float("nan")) if memory.is_floating_point() else memory

        monkeypatch.setattr(owner, name, full_of_nan)
