"""The CUDA engine of pixel programs, run on the CPU: the parameters and images of the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from checks import assert_as_exact_as_torch
from emulated import SCHEDULES, emulation
from sampled import draw_levels, gated, labels_of, map_program, teacher_forced, toy

from genfast.ops import pixel_sampler
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


# ---- rows replayed from graphs ----------------------------------------------------------------------


@contextmanager
def launched_singly() -> Iterator[None]:
    """Inside, every kernel is launched by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_sampler, "USE_GRAPHS", False)
        yield


GRAPH_CASES = ["gated", "levels", "map"]


def graph_case(name: str) -> tuple[Program, dict[str, torch.Tensor]]:
    """Programs of more rows than their rings are deep, so that rows are replayed."""
    if name == "gated":  # a class, known once for all rows
        model = gated((2, 9, 2), 5, 6, 2, 3)
        return model.pixel_program(), model.pixel_inputs(torch.arange(3))
    if name == "levels":
        model = toy((3, 11, 3), levels=16, filters=3, depth=2)
        return model.program(), model.inputs(torch.arange(3))
    plane = torch.randn(3, 3, 5, 4, generator=torch.Generator().manual_seed(2))
    return map_program(), {"plane": plane}


@torch.no_grad()
@pytest.mark.parametrize("name", GRAPH_CASES)
def test_replayed_rows_give_the_bits_of_single_launches(name, emulated):
    program, inputs = graph_case(name)
    height = program.image_shape[1]
    x = draw_levels(program.levels, 3, *program.image_shape)
    before = emulated.graph_launches()
    got, images = (
        teacher_forced(program, x, inputs, "native"),
        draw_images(program, "native", 3, inputs=inputs),
    )
    replayed = emulated.graph_launches() - before
    assert height < replayed <= 2 * height, "all kinds of rows that come again were replayed"
    with launched_singly():
        assert torch.equal(teacher_forced(program, x, inputs, "native"), got)
        assert torch.equal(draw_images(program, "native", 3, inputs=inputs), images)
    assert emulated.graph_launches() == before + replayed
    assert torch.equal(draw_images(program, "interpreter", 3, inputs=inputs), images)


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 3, 8, 9]])
def test_rows_can_be_run_in_any_chunks(cuts, emulated):
    program, inputs = graph_case("gated")
    sampler = PixelSampler(program, "native")
    x = torch.zeros(3, 2, 9, 2, dtype=torch.int64)
    run = sampler._start(x, torch.zeros_like(x, dtype=torch.bool), 3, 0, 1.0, inputs, None)
    for first, last in pairwise(cuts):
        run(first, last)
    expected = torch.zeros_like(x)
    with launched_singly():
        sampler.fill(expected, torch.zeros_like(x, dtype=torch.bool), seed=3, inputs=inputs)
    assert torch.equal(x, expected)


@torch.no_grad()
def test_samplings_side_by_side_have_their_own_graphs(emulated):
    """Two with one program, row by row in turn, as on two streams; a third is given up half way."""
    program, inputs = graph_case("gated")
    sampler = PixelSampler(program, "native")
    images = [torch.zeros(3, 2, 9, 2, dtype=torch.int64) for _ in range(3)]
    none = torch.zeros_like(images[0], dtype=torch.bool)
    runs = [sampler._start(x, none, seed, 5, 0.9, inputs, None) for seed, x in enumerate(images)]
    for row in range(9):
        for run in runs if row < 6 else runs[:2]:
            run(row, row + 1)
    del runs
    for seed, x in enumerate(images):
        expected = torch.zeros_like(x)
        with launched_singly():
            sampler.fill(expected, none, seed=seed, start=5, temperature=0.9, inputs=inputs)
        rows = 9 if seed < 2 else 6
        assert torch.equal(x[:, :, :rows], expected[:, :, :rows])


@torch.no_grad()
def test_a_stream_that_is_being_captured_gets_single_launches(emulated):
    program, inputs = graph_case("gated")
    expected = draw_images(program, "native", 3, inputs=inputs)
    before = emulated.graph_launches()
    emulated.set_capturing(True)
    try:
        images = draw_images(program, "native", 3, inputs=inputs)
    finally:
        emulated.set_capturing(False)
    assert torch.equal(images, expected)
    assert emulated.graph_launches() == before


def test_too_many_taps_are_refused(emulated):
    builder = ProgramBuilder((1, 2, 2), 2)
    taps = [builder.image.at(-1, c) for c in range(65)]
    builder.draw(builder.compute("many", taps, torch.ones(1, 65)), "bernoulli")
    with pytest.raises(ValueError, match="more than 64 taps"):
        draw_images(builder.build(), "native", 1)
