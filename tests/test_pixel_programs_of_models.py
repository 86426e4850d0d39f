"""Every model as a pixel program: the outputs of the full forward, the images of naive sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks import assert_as_exact_as_torch
from tiny_models import NAMES, tiny
from torch import Tensor

from genfast.models import GatedPixelCNN
from genfast.models.autoregressive import AutoregressiveModel
from genfast.sampling import PixelSampler, incremental

# model, image shape, levels, changes: colours, classes, conditions, every setting, sizes of 1, odd sizes
CASES: list[tuple[str, tuple[int, int, int], int, dict[str, Any]]] = [
    ("pixelcnn", (1, 6, 7), 2, {}),
    ("pixelcnn", (3, 4, 5), 5, {"num_classes": 3}),
    ("pixelcnn", (2, 3, 4), 4, {"layers": 0}),
    ("pixelcnn", (3, 1, 9), 3, {"layers": 1}),
    ("gated-pixelcnn", (1, 5, 6), 2, {"border": "bias"}),
    ("gated-pixelcnn", (3, 5, 4), 4, {"border": "bias", "skip": True, "num_classes": 3}),
    ("gated-pixelcnn", (1, 5, 4), 256, {"border": "bias", "skip": True, "layers": 1}),
    ("gated-pixelcnn", (3, 4, 5), 4, {"condition_channels": 2}),
    ("gated-pixelcnn", (1, 1, 7), 3, {"condition_channels": 2, "border": "bias", "num_classes": 2}),
    ("gated-pixelcnn", (3, 3, 1), 4, {"skip": True, "condition_channels": 1, "num_classes": 2}),
    ("pixelcnn-pp", (3, 5, 4), 16, {"resolutions": 1, "num_classes": 3}),
    ("pixelcnn-pp", (1, 4, 5), 2, {"resolutions": 2, "resnets": 2}),
    ("pixelcnn-pp", (3, 5, 3), 256, {"resolutions": 3, "num_classes": 2}),
    ("pixelcnn-pp", (1, 9, 3), 4, {"resolutions": 4, "mixtures": 3, "dropout": 0.5}),
    ("pixelcnn-pp", (3, 1, 3), 8, {"resolutions": 3}),
    ("pixel-rnn", (1, 6, 7), 2, {}),
    ("pixel-rnn", (3, 4, 5), 5, {"num_classes": 3}),
    ("pixel-rnn", (1, 5, 4), 256, {"skip": True, "layers": 1, "hidden": 16}),
    ("pixel-rnn", (3, 1, 7), 4, {"skip": True, "num_classes": 2}),
    ("pixel-rnn", (2, 6, 1), 3, {"skip": True, "layers": 3}),
    ("pixel-rnn (row)", (1, 6, 7), 2, {"skip": True}),
    ("pixel-rnn (row)", (3, 4, 5), 5, {"skip": True, "num_classes": 3, "layers": 3}),
    ("pixel-rnn (row)", (1, 5, 4), 256, {"layers": 1, "hidden": 16}),
    ("pixel-rnn (row)", (2, 1, 7), 4, {"num_classes": 2}),
    ("pixel-rnn (row)", (3, 6, 1), 3, {}),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")


def made(case, n: int) -> tuple[AutoregressiveModel, Tensor, dict[str, Tensor | None]]:
    """A model in fp64, images and what they are conditioned on."""
    name, shape, levels, changes = case
    model, generator = tiny(name, shape, levels, **changes), torch.Generator().manual_seed(1)
    x = torch.randint(levels, (n, *shape), generator=generator)
    labels = torch.arange(n) % model.num_classes if model.num_classes else None
    planes = model.condition_channels
    condition = torch.randn(n, planes, *shape[1:], generator=generator) if planes else None
    return model.eval(), x, {"labels": labels, "condition": condition}


def teacher_forced(model: AutoregressiveModel, x: Tensor, given, engine: str) -> Tensor:
    """The network's outputs at every pixel of given images, as the program computes them."""
    program, dtype = model.pixel_program(), next(model.parameters()).dtype
    outputs = torch.full((len(x), program.outputs, *x.shape[2:]), float("nan"), dtype=dtype)
    PixelSampler(program, engine).fill(
        x.clone(), torch.ones_like(x, dtype=torch.bool),
        inputs=model.pixel_inputs(**given), outputs=outputs,
    )  # fmt: skip
    return outputs


@torch.no_grad()
@cases
def test_the_interpreter_computes_what_the_model_does(case):
    model, x, given = made(case, 3)
    got = teacher_forced(model, x, given, "interpreter")
    full = model._outputs(x, **given)
    torch.testing.assert_close(got, full, rtol=0, atol=1e-10)
    assert full.std() > 0.1


@torch.no_grad()
@cases
def test_the_engine_is_as_exact_as_the_model_in_fp32(case, isa):
    model, x, given = made(case, 30)
    model.float()
    got, plain = teacher_forced(model, x, given, "native"), model._outputs(x, **given)
    exact = model.double()._outputs(x, **given)
    assert_as_exact_as_torch(got, plain, exact, f"{case}, {isa}")


@torch.no_grad()
@cases
def test_threads_that_share_images_give_the_same_bits(case, monkeypatch):
    model, x, given = made(case, 3)
    model.float()
    alone = teacher_forced(model, x, given, "native")
    for name in ("_SHARED_PRODUCTS", "_SHARED_PIXEL_PRODUCTS"):
        monkeypatch.setattr(incremental, name, 0)
    torch.set_num_threads(7)  # two for each image, and one more
    assert torch.equal(teacher_forced(model, x, given, "native"), alone)


@cases
def test_images_equal_naive_ones(case):
    model, _, given = made(case, 5)
    naive = model.sample(5, seed=3, method="naive", **given)
    assert torch.equal(model.sample(5, seed=3, **given), naive)
    assert torch.equal(model.float().sample(5, seed=3, **given), naive)
    assert len(naive.unique(dim=0)) > 1


@cases
def test_completions_at_a_temperature_equal_naive_ones(case):
    model, x, given = made(case, 4)
    temperature = 0.4 if CASES.index(case) % 2 else 1.6
    model.float()
    mask = torch.rand(4, 1, *x.shape[2:], generator=torch.Generator().manual_seed(2)) < 0.3
    keywords: dict[str, Any] = {"seed": 5, "temperature": temperature, "given": x, "mask": mask}
    naive = model.sample(4, method="naive", **keywords, **given)
    drawn = model.sample(4, **keywords, **given)
    assert torch.equal(drawn, naive)
    assert torch.equal(torch.where(mask, drawn, 0), torch.where(mask, x, 0))


@pytest.mark.parametrize("name", NAMES)
def test_the_program_follows_every_parameter(name):
    """Also gains and directions, which the program holds folded into weights."""
    model = tiny(name, (1, 4, 5), 16, num_classes=2)
    x, labels = torch.zeros(2, 1, 4, 5, dtype=torch.int64), torch.tensor([0, 1])
    seen = []
    for key, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.mul_(1.5).add_(0.05)
            sampler = model._sampler_cache.sampler(model, model.pixel_program)
            outputs = x.new_zeros(2, sampler.program.outputs, 4, 5, dtype=torch.float64)
            sampler.fill(
                x.clone(), torch.ones_like(x, dtype=torch.bool),
                inputs=model.pixel_inputs(labels), outputs=outputs,
            )  # fmt: skip
            torch.testing.assert_close(outputs, model._outputs(x, labels), rtol=1e-10, atol=1e-10)
        seen.append(outputs)
        assert len(seen) < 2 or not torch.equal(*seen[-2:]), key


def test_a_condition_reaches_every_pixel():
    model = tiny("gated-pixelcnn", (1, 4, 4), 64, condition_channels=1)
    assert isinstance(model, GatedPixelCNN)
    plane = torch.zeros(1, 1, 4, 4)
    x = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    with torch.no_grad():
        off, on = (
            teacher_forced(model, x, {"condition": plane + step}, "interpreter") for step in (0, 1)
        )
    assert ((on - off).abs().amax(1) > 1e-3).all()


def test_sampling_leaves_the_mode_as_it_is():
    model = tiny("pixelcnn-pp", (1, 3, 3), 4, dropout=0.5).train()
    naive, drawn = (model.sample(3, method=method) for method in ("naive", "incremental"))
    assert torch.equal(naive, drawn)
    assert model.training
    assert model.encoder[0].training
