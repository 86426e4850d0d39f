"""What must hold of models on a GPU; test_models_cuda.py and test_models_emulated.py run it.

Expected values are the plain PyTorch twin's (or the CPU's images). `inside` is where the model under
test runs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from checks import largest
from enumeration import randomise

import genfast
from genfast.models import GatedPixelCNN
from genfast.ops import pixel_sampler
from genfast.sampling import PixelSampler

Inside = Callable[[], AbstractContextManager[object]]

LEVELS = 4
SIZES = (((1, 4, 5), 0), ((3, 3, 4), 2))  # image shape, classes
# Of the largest logit or gradient: sums of some hundred terms, through three layers.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}


def tiny_model(image_shape: tuple[int, int, int] = (1, 4, 5), classes: int = 0) -> GatedPixelCNN:
    """In fp64, with weights that make images differ."""
    model = GatedPixelCNN(image_shape, LEVELS, channels=8, layers=2, num_classes=classes).double()
    randomise(model)
    return model


def twin_of(model: GatedPixelCNN) -> torch.nn.Module:
    """The plain PyTorch twin, in fp64 on the CPU."""
    twin = genfast.reference.GatedPixelCNN(**model.config).double()
    twin.load_state_dict(model.state_dict())
    return twin


def data(image_shape: tuple[int, int, int], classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(LEVELS, (5, *image_shape), generator=generator)
    return x, torch.randint(classes, (5,), generator=generator) if classes else None


def assert_near(got: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    assert largest(got.cpu().double() - exact) <= TOLERANCE[dtype] * (1 + largest(exact))


def check_likelihoods(device: str, dtype: torch.dtype, inside: Inside) -> None:
    for image_shape, classes in SIZES:
        model = tiny_model(image_shape, classes)
        x, labels = data(image_shape, classes)
        logits = twin_of(model)(x, labels)
        nats = -F.cross_entropy(logits.transpose(1, 2), x, reduction="none")
        there = copy.deepcopy(model).to(device, dtype)
        given = x.to(device), None if labels is None else labels.to(device)
        with inside():
            got = there(*given), there.pixel_log_prob(*given), there.log_prob(*given)
        for mine, exact in zip(got, (logits, nats, nats.sum((1, 2, 3))), strict=True):
            assert mine.device.type == device
            assert_near(mine, exact, dtype)


def check_training_step(device: str, inside: Inside) -> None:
    for image_shape, classes in SIZES:
        model = tiny_model(image_shape, classes)
        twin = twin_of(model)
        x, labels = data(image_shape, classes)
        loss = F.cross_entropy(twin(x, labels).transpose(1, 2), x) / math.log(2)
        loss.backward()
        model.to(device)
        x, labels = x.to(device), None if labels is None else labels.to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with inside():
            before = model.loss(x, labels)
            before.backward()
        gradients = dict(twin.named_parameters())
        assert_near(before, loss, torch.float64)
        for name, parameter in model.named_parameters():
            assert_near(parameter.grad, gradients[name].grad, torch.float64)
        optimizer.step()
        with inside(), torch.no_grad():
            assert model.loss(x, labels) < before


def check_samples(device: str, inside: Inside) -> None:
    """In fp64 a draw falls on a decision boundary about once in 10^13, so all images are equal."""
    for image_shape, classes in SIZES:
        model = tiny_model(image_shape, classes)
        labels = torch.tensor([0, 1, 1, 0]) if classes else None
        expected = model.sample(4, seed=3, labels=labels)
        model.to(device)
        with inside():
            images = model.sample(4, seed=3, labels=None if labels is None else labels.to(device))
        assert images.device.type == device
        assert torch.equal(images.cpu(), expected)


def tall_sampler(device: str) -> tuple[PixelSampler, dict[str, torch.Tensor]]:
    """Of images with more rows than the sampler's rings are deep, so that rows are replayed."""
    model = tiny_model((2, 9, 3), classes=2).float().to(device)
    with torch.no_grad():
        inputs = model.pixel_inputs(torch.tensor([0, 1, 1], device=device))
        return PixelSampler(model.pixel_program()), inputs


def draw(
    sampler: PixelSampler, inputs: dict[str, torch.Tensor], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images and the parameters that they were drawn with."""
    device = next(iter(inputs.values())).device
    x = torch.zeros(3, 2, 9, 3, dtype=torch.int64, device=device)
    outputs = torch.full((3, sampler.program.outputs, 9, 3), torch.nan, device=device)
    sampler.fill(x, torch.zeros_like(x, dtype=torch.bool), seed=seed, inputs=inputs, outputs=outputs)
    return x, outputs


def check_graphs(device: str, inside: Inside) -> None:
    """Rows replayed from graphs give the bits of rows launched kernel by kernel."""
    with inside(), pytest.MonkeyPatch.context() as patch:
        sampler, inputs = tall_sampler(device)
        replayed = [draw(sampler, inputs, seed) for seed in range(2)]
        patch.setattr(pixel_sampler, "USE_GRAPHS", False)
        for seed, (x, outputs) in enumerate(replayed):
            images, parameters = draw(sampler, inputs, seed)
            assert torch.equal(x, images)
            assert torch.equal(outputs, parameters)
        assert not torch.equal(replayed[0][0], replayed[1][0])
