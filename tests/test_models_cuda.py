"""Models on a GPU: the CPU's likelihoods, gradients and images. Not collected without a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from device_models import (
    check_graphs,
    check_likelihoods,
    check_samples,
    check_training_step,
    data,
    draw,
    tall_sampler,
    tiny_model,
)
from places import exact_convolutions, own_kernels

from genfast.sampling import uniforms

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True, params=[False, True], ids=["cudnn", "own"])
def convolutions(request: pytest.FixtureRequest) -> Iterator[None]:
    with exact_convolutions(), own_kernels(request.param):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_likelihoods(dtype: torch.dtype) -> None:
    check_likelihoods("cuda", dtype, nullcontext)


def test_training_step() -> None:
    check_training_step("cuda", nullcontext)


def test_samples() -> None:
    check_samples("cuda", nullcontext)


def test_graphs() -> None:
    check_graphs("cuda", nullcontext)


def test_samplings_on_two_streams_do_not_disturb_each_other() -> None:
    sampler, inputs = tall_sampler("cuda")
    expected = [draw(sampler, inputs, seed) for seed in range(2)]
    torch.cuda.synchronize()
    streams, drawn = [torch.cuda.Stream(), torch.cuda.Stream()], []
    for turn in range(8):
        with torch.cuda.stream(streams[turn % 2]):
            drawn.append(draw(sampler, inputs, turn % 2))
    torch.cuda.synchronize()
    for turn, (x, outputs) in enumerate(drawn):
        assert torch.equal(x, expected[turn % 2][0])
        assert torch.equal(outputs, expected[turn % 2][1])


def test_sampling_can_be_part_of_a_graph_of_the_caller() -> None:
    """Its rows are then launched one by one into that graph."""
    sampler, inputs = tall_sampler("cuda")
    expected = draw(sampler, inputs, 3)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = draw(sampler, inputs, 3)
    for _ in range(2):
        for tensor in drawn:
            tensor.zero_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(drawn[0], expected[0])
        assert torch.equal(drawn[1], expected[1])


def test_uniforms_are_the_cpus_to_the_bit() -> None:
    images = torch.arange(2**32 - 5, 2**32 + 5)
    assert torch.equal(uniforms(7, images.cuda(), 3, 9).cpu(), uniforms(7, images, 3, 9))


def test_bf16_autocast_trains() -> None:
    model, (x, _) = tiny_model().float(), data((1, 4, 5), 0)
    exact = model.loss(x).item()
    model.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model.loss(x.cuda())
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=2e-2)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
