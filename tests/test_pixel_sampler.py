"""Incremental sampling: the outputs of the full forward, the images of naive sampling, on any engine."""

from __future__ import annotations

import pytest
import torch
from checks import assert_as_exact_as_torch
from enumeration import all_images
from sampled import GATED, LEVELLED, draw_levels, gated, labels_of, map_program, teacher_forced, toy
from scipy import stats

from genfast.sampling import (
    PixelSampler,
    ProgramBuilder,
    logistic_mixture_levels,
    uniforms,
)

# ---- parameters equal those of the full forward, at every pixel ------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("case", GATED)
def test_the_interpreter_computes_what_the_gated_pixelcnn_does(case):
    model = gated(*case).double()
    x, labels = draw_levels(case[1], 3, *case[0]), labels_of(model, 3)
    got = teacher_forced(model.pixel_program(), x, model.pixel_inputs(labels), "interpreter")
    torch.testing.assert_close(got, model._outputs(x, labels), rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("case", GATED)
@pytest.mark.parametrize("batch", [1, 3, 14])
def test_the_engine_is_as_exact_as_the_full_forward_in_fp32(case, batch, isa):
    model = gated(*case)
    x, labels = draw_levels(case[1], 42, *case[0]), labels_of(model, 42)
    program, inputs = model.pixel_program(), model.pixel_inputs(labels)
    parts = [
        teacher_forced(program, x[i], {k: v[i] for k, v in inputs.items()}, "native")
        for i in torch.arange(42).split(batch)
    ]
    got, plain = torch.cat(parts), model._outputs(x, labels)
    model.double()
    exact = model._outputs(x, labels)
    assert_as_exact_as_torch(got, plain, exact, f"{case}, {isa}")


@torch.no_grad()
@pytest.mark.parametrize("shape", LEVELLED)
@pytest.mark.parametrize("split", [True, False])
def test_the_interpreter_computes_levels_and_odd_sizes(shape, split):
    model = toy(shape, levels=256).double()
    x, labels = draw_levels(256, 2, *shape), torch.tensor([0, 2])
    got = teacher_forced(model.program(split=split), x, model.inputs(labels), "interpreter")
    full = model(x.double() * (2 / 255) - 1, labels)
    torch.testing.assert_close(got, full, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("shape", LEVELLED)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_engine_computes_levels_and_odd_sizes(shape, batch, isa):
    model = toy(shape, levels=256)
    x, labels = draw_levels(256, 15, *shape), torch.arange(15) % 3
    program, inputs = model.program(), model.inputs(labels)
    parts = [
        teacher_forced(program, x[i], {k: v[i] for k, v in inputs.items()}, "native")
        for i in torch.arange(15).split(batch)
    ]
    got = torch.cat(parts)
    plain = model(x.float() * (2 / 255) - 1, labels)
    exact = model.double()(x.double() * (2 / 255) - 1, labels)
    assert_as_exact_as_torch(got, plain, exact, isa)


@torch.no_grad()
def test_levels_make_post_and_end_instructions():
    """The toy has what PixelCNN++ has: all four phases, and products that are split."""
    program = toy((1, 8, 8), levels=4).program()
    assert all(program.phase(phase) for phase in range(4))
    assert any("(row)" in i.name for i in program.instructions)


@pytest.mark.parametrize("n", [1, 4])
def test_spatial_conditions(n, isa):
    program = map_program()
    plane = torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(2))
    x = draw_levels(4, n, 1, 5, 4)
    native = teacher_forced(program, x, {"plane": plane}, "native")
    plain = teacher_forced(program, x, {"plane": plane}, "interpreter")
    torch.testing.assert_close(native, plain, rtol=1e-5, atol=1e-5)
    other = teacher_forced(program, x, {"plane": plane + 1}, "native")
    assert ((other - native).abs() > 1e-3).any(dim=1).all()


def test_channels_written_in_parts_can_be_added_together():
    """Vectors of the engine's memory cannot, so it takes a product with the identity instead."""
    builder = ProgramBuilder((1, 3, 3), 2)
    generator = torch.Generator().manual_seed(0)
    parts = builder.buffer("parts", 5)
    for first, last in ((0, 2), (2, 5)):
        weight = torch.randn(last - first, 1, generator=generator)
        builder.compute("part", [builder.image.at(0, -1)], weight, into=parts[first:last])
    both = builder.compute("both", before=[parts], function="elu")
    builder.draw(builder.compute("logit", [both], torch.ones(1, 5)), "bernoulli")
    program, x = builder.build(), draw_levels(2, 3, 1, 3, 3)
    native, plain = (teacher_forced(program, x, {}, e) for e in ("native", "interpreter"))
    torch.testing.assert_close(native, plain)
    assert plain.std() > 0.1


# ---- images equal those of naive sampling ----------------------------------------------------------


@pytest.mark.parametrize("case", GATED)
def test_images_equal_naive_ones(case):
    model = gated(*case)
    labels = labels_of(model, 5)
    naive = model.sample(5, seed=3, labels=labels, method="naive")
    assert torch.equal(model.sample(5, seed=3, labels=labels), naive)
    assert torch.equal(model.double().sample(5, seed=3, labels=labels), naive)
    assert len(naive.unique(dim=0)) > 1 or naive[0].numel() < 4


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("temperature", [0.3, 1.7])
def test_temperature_and_completion_equal_naive_ones(engine, temperature):
    model = gated((3, 4, 5), 6, 12)
    given = draw_levels(6, 4, 3, 4, 5)
    mask = draw_levels(5, 4, 3, 4, 5) < 2
    keywords = {"seed": 2, "temperature": temperature, "given": given, "mask": mask}
    naive = model.sample(4, method="naive", **keywords)
    drawn, known = torch.where(mask, given, 0), mask
    with torch.no_grad():
        PixelSampler(model.pixel_program(), engine).fill(drawn, known, seed=2, temperature=temperature)
    assert torch.equal(drawn, naive)
    assert torch.equal(drawn[mask], given[mask])


def test_a_mixture_of_logistics_is_drawn_as_one_event():
    """Against a loop over the full forward that draws by the reference."""
    model = toy((3, 4, 5), levels=16, mixtures=3)
    n, labels = 4, torch.tensor([0, 1, 2, 0])
    x = torch.zeros(n, 3, 4, 5, dtype=torch.int64)
    with torch.no_grad():
        for pixel in range(20):
            row, column = divmod(pixel, 5)
            parameters = model(x.float() * (2 / 15) - 1, labels)[:, :, row, column]
            u = uniforms(7, torch.arange(n), pixel, 4)
            x[:, :, row, column] = logistic_mixture_levels(parameters, u, levels=16, temperature=0.8)
        for engine in ("native", "interpreter"):
            got, known = torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
            PixelSampler(model.program(), engine).fill(
                got, known, seed=7, temperature=0.8, inputs=model.inputs(labels)
            )
            assert torch.equal(got, x)
    assert x.unique().numel() > 8


@pytest.mark.parametrize(("image_shape", "levels"), [((1, 2, 3), 2), ((3, 1, 2), 2), ((1, 2, 2), 3)])
def test_samples_follow_the_enumerated_distribution(image_shape, levels):
    model = gated(image_shape, levels, 7, 3)
    images = all_images(image_shape, levels)
    expected = model.log_prob(images).double().exp().detach()
    n = 20_000
    place = levels ** torch.arange(images[0].numel() - 1, -1, -1)
    observed = (model.sample(n, seed=5).flatten(1) * place).sum(1).bincount(minlength=len(images))
    common = expected * n >= 5
    observed = torch.cat([observed[common], observed[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]]) * n
    keep = expected > 0
    test = stats.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False)
    assert test.pvalue > 1e-3
