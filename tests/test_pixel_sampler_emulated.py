"""The CUDA engine of pixel programs, run on the CPU: the parameters and images of the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from checks import assert_as_exact_as_torch
from emulated import SCHEDULES, emulation
from test_pixel_sampler import draw_levels, gated, labels_of, map_program, teacher_forced, toy

from genfast.sampling import PixelSampler, Program, ProgramBuilder


@pytest.fixture(params=SCHEDULES, ids=lambda schedule: "-".join(map(str, schedule)))
def emulated(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with emulation() as module:
        module.configure(*request.param)
        yield module
        module.configure("forward", 0)


@torch.no_grad()
@pytest.mark.parametrize(
    "case",
    [((1, 3, 4), 2, 9, 2, 0), ((3, 2, 3), 5, 14, 2, 3), ((1, 2, 2), 40, 36, 1, 0)],
)
def test_gated_pixelcnn(case, emulated):
    model = gated(*case)
    x, labels = draw_levels(case[1], 35, *case[0]), labels_of(model, 35)
    program, inputs = model.pixel_program(), model.pixel_inputs(labels)
    got = teacher_forced(program, x, inputs, "native")
    few = teacher_forced(program, x[:2], {k: v[:2] for k, v in inputs.items()}, "native")
    assert torch.equal(few, got[:2])
    plain = model._outputs(x, labels)
    exact = model.double()._outputs(x, labels)
    assert_as_exact_as_torch(got, plain, exact, str(case))


@torch.no_grad()
def test_levels_and_mixtures(emulated):
    model, x = toy((3, 4, 3), levels=256), draw_levels(256, 2, 3, 4, 3)
    labels = torch.arange(2)
    program, inputs = model.program(), model.inputs(labels)
    got = teacher_forced(program, x, inputs, "native")
    plain = model(x.float() * (2 / 255) - 1, labels)
    torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-6)
    images = draw_images(program, "native", 2, inputs=inputs)
    assert torch.equal(images, draw_images(program, "interpreter", 2, inputs=inputs))


@torch.no_grad()
def test_spatial_conditions(emulated):
    program, x = map_program(), draw_levels(4, 3, 1, 5, 4)
    inputs = {"plane": torch.randn(3, 3, 5, 4, generator=torch.Generator().manual_seed(2))}
    native, plain = (teacher_forced(program, x, inputs, e) for e in ("native", "interpreter"))
    torch.testing.assert_close(native, plain, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("image_shape", "levels"), [((1, 3, 3), 2), ((2, 2, 3), 5), ((1, 2, 2), 70)])
def test_images_equal_those_of_the_interpreter(image_shape, levels, emulated):
    program = gated(image_shape, levels).pixel_program()
    keywords = {"seed": 3, "start": 5, "temperature": 0.8}
    native = draw_images(program, "native", 4, **keywords)
    assert torch.equal(native, draw_images(program, "interpreter", 4, **keywords))
    assert native.unique().numel() > 1


def draw_images(program: Program, engine: str, n: int, **keywords) -> torch.Tensor:
    x = torch.zeros(n, *program.image_shape, dtype=torch.int64)
    known = torch.zeros_like(x, dtype=torch.bool)
    known[0, 0, 0] = True
    PixelSampler(program, engine).fill(x, known, **keywords)
    assert not x[0, 0, 0].any()
    return x


def test_too_many_taps_are_refused(emulated):
    builder = ProgramBuilder((1, 2, 2), 2)
    taps = [builder.image.at(-1, c) for c in range(65)]
    builder.draw(builder.compute("many", taps, torch.ones(1, 65)), "bernoulli")
    with pytest.raises(ValueError, match="more than 64 taps"):
        draw_images(builder.build(), "native", 1)
