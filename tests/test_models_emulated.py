"""Models with the CUDA kernels emulated on the CPU: what test_models_cuda.py asks of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from device_models import check_graphs, check_likelihoods, check_samples, check_training_step
from emulated import emulation
from places import exact_convolutions, own_kernels


@contextmanager
def inside() -> Iterator[None]:
    with emulation(), exact_convolutions(), own_kernels(True):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_likelihoods(dtype: torch.dtype) -> None:
    check_likelihoods("cpu", dtype, inside)


def test_training_step() -> None:
    check_training_step("cpu", inside)


def test_samples() -> None:
    check_samples("cpu", inside)


def test_graphs() -> None:
    check_graphs("cpu", inside)
