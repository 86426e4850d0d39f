"""Incremental sampling: what its images may not depend on, its cache, interrupts, mistakes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sampled import GATED, draw_levels, gated, labels_of, map_program, teacher_forced, toy
from torch import Tensor

from genfast.models import GatedPixelCNN
from genfast.models.autoregressive import AutoregressiveModel
from genfast.sampling import (
    PixelSampler,
    ProgramBuilder,
    incremental,
)

# ---- what nothing may depend on --------------------------------------------------------------------


# From how many multiplications a row, and a pixel, threads share an image: never, rows, both.
SHARING = {"tiles": (1 << 60, 1 << 60), "rows": (0, 1 << 60), "rows and pixels": (0, 0)}


def share(monkeypatch: pytest.MonkeyPatch, sharing: str) -> None:
    rows, pixels = SHARING[sharing]
    monkeypatch.setattr(incremental, "_SHARED_PRODUCTS", rows)
    monkeypatch.setattr(incremental, "_SHARED_PIXEL_PRODUCTS", pixels)


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("channels", [40, 9, 160])  # halves that can be shared, halves that cannot
def test_parameters_are_equal_to_the_bit_for_any_batch_and_threads(
    channels, threads, sharing, monkeypatch, isa
):
    """With fewer images than threads and enough to do, several threads work on one."""
    share(monkeypatch, sharing)
    size = (1, 6, 7) if channels < 100 else (1, 4, 5)
    x, model = draw_levels(4, 7, *size), gated(size, 4, channels)
    with torch.no_grad():
        program = model.pixel_program()
    torch.set_num_threads(1)
    alone = torch.cat([teacher_forced(program, x[i : i + 1], {}, "native") for i in range(7)])
    torch.set_num_threads(threads)
    for batch in (1, 2, 7):
        got = torch.cat([teacher_forced(program, part, {}, "native") for part in x.split(batch)])
        assert torch.equal(got, alone)


@pytest.mark.parametrize("sharing", ["rows", "rows and pixels"])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("filters", [6, 16, 48])
def test_levels_are_equal_to_the_bit_for_any_batch_and_threads(
    filters, threads, sharing, monkeypatch, isa
):
    share(monkeypatch, sharing)
    x, labels = draw_levels(256, 5, 3, 7, 6), torch.arange(5) % 3
    model = toy((3, 7, 6), levels=256, filters=filters)
    with torch.no_grad():
        program, inputs = model.program(), model.inputs(labels)
    torch.set_num_threads(1)
    alone = teacher_forced(program, x, inputs, "native")
    torch.set_num_threads(threads)
    assert torch.equal(teacher_forced(program, x, inputs, "native"), alone)
    for n in (1, 2):
        first = {name: value[:n] for name, value in inputs.items()}
        assert torch.equal(teacher_forced(program, x[:n], first, "native"), alone[:n])


def test_more_threads_than_cores_share_an_image(monkeypatch):
    """They wait for one another some thousand times; none may hang."""
    share(monkeypatch, "rows and pixels")
    model = gated((1, 6, 6), 4, 160)
    expected = model.sample(1, seed=3)
    torch.set_num_threads(4 * (os.cpu_count() or 1))
    assert torch.equal(model.sample(1, seed=3), expected)


def test_a_forked_process_samples_with_one_thread(monkeypatch):
    share(monkeypatch, "rows and pixels")
    model = gated((1, 6, 6), 4)
    model.sample(1)
    torch.set_num_threads(2)
    expected = model.sample(4)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert torch.equal(pool.apply_async(model.sample, (4,)).get(timeout=60), expected)


def test_images_depend_on_their_number_only():
    model = gated((1, 5, 6), 4)
    together = model.sample(9, seed=5)
    parts = [model.sample(4, seed=5), model.sample(5, seed=5, start=4)]
    assert torch.equal(together, torch.cat(parts))
    assert not torch.equal(together, model.sample(9, seed=6))
    assert torch.equal(model.sample(2, seed=5, start=2**33), model.sample(3, seed=5, start=2**33)[:2])
    assert model.sample(0).shape == (0, 1, 5, 6)


def test_a_large_or_negative_seed_is_taken_by_its_low_bits():
    model = gated((1, 3, 3), 4)
    for seed in (-1, 2**64 + 3):
        assert torch.equal(model.sample(3, seed=seed), model.sample(3, seed=seed, method="naive"))


def test_threads_may_share_a_model():
    model = gated((1, 8, 8), 4)
    expected = [model.sample(3, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda seed: model.sample(3, seed=seed), range(8)))
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


# ---- the cache -------------------------------------------------------------------------------------


def agrees_with_naive(model: AutoregressiveModel) -> Tensor:
    drawn = model.sample(6, seed=1)
    assert torch.equal(drawn, model.sample(6, seed=1, method="naive"))
    return drawn


def test_the_program_is_made_once_and_anew_when_a_parameter_changes(monkeypatch):
    model = gated((1, 5, 5), 4)
    made = []
    program = GatedPixelCNN.pixel_program
    monkeypatch.setattr(GatedPixelCNN, "pixel_program", lambda self: made.append(0) or program(self))
    before = agrees_with_naive(model)
    agrees_with_naive(model)
    assert len(made) == 1

    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model.loss(draw_levels(4, 4, 1, 5, 5)).backward()
    optimiser.step()
    after = agrees_with_naive(model)
    assert not torch.equal(after, before)
    assert len(made) == 2

    model.blocks[0].link.weight.data.mul_(2)  # unseen by PyTorch's version counter
    agrees_with_naive(model)
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})
    agrees_with_naive(model)
    model.double()
    agrees_with_naive(model)
    assert len(made) == 5


def test_a_model_that_has_sampled_can_be_copied_and_pickled():
    model = gated((1, 4, 4), 4)
    drawn = model.sample(3)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head[3].bias.add_(torch.tensor([3.0, 0, 0, 0]))
    assert not torch.equal(agrees_with_naive(twin)[:3], drawn)
    assert torch.equal(pickle.loads(pickle.dumps(model)).sample(3), drawn)
    assert torch.equal(model.sample(3), drawn)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_models_are_sampled_in_fp32(dtype):
    model = gated((1, 5, 5), 4).to(dtype)
    assert torch.equal(model.sample(4), copy.deepcopy(model).float().sample(4))


def test_sampling_ignores_autocast():
    model = gated((1, 5, 5), 4, num_classes=2)
    expected = model.sample(4, labels=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.sample(4, labels=1), expected)
        assert torch.equal(copy.deepcopy(model).double().sample(4, labels=1), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("case", GATED)
def test_a_gpu_draws_the_images_of_the_cpu(case):
    model = gated(*case)
    labels = labels_of(model, 40)
    expected = model.sample(40, seed=3, labels=labels)
    labels = None if labels is None else labels.cuda()
    drawn = model.cuda().sample(40, seed=3, labels=labels)
    assert torch.equal(drawn.cpu(), expected)
    assert torch.equal(model.double().sample(40, seed=3, labels=labels), drawn)


# ---- progress and interrupts -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["naive", "incremental"])
def test_progress_counts_all_pixels(method, capsys):
    model = gated((1, 3, 4), 2)
    model.sample(5, method=method, progress=True)
    assert "60/60" in capsys.readouterr().err


def test_an_interrupt_stops_the_sampling_soon_and_breaks_nothing():
    model = GatedPixelCNN((1, 64, 64), 2, 64, 4)
    expected = model.sample(1)
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    x = torch.zeros(400, 1, 64, 64, dtype=torch.int64)  # many seconds
    # A shell that starts the tests in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            PixelSampler(model.pixel_program()).fill(x, torch.zeros_like(x, dtype=torch.bool))
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not x[-1].any(), "the last image was not reached"
    assert torch.equal(model.sample(1), expected)


def test_an_exception_from_the_progress_bar_breaks_nothing():
    model = gated((1, 6, 6), 4)
    expected = model.sample(2)
    sampler = model._sampler_cache.sampler(model, model.pixel_program)
    x = torch.zeros(2, 1, 6, 6, dtype=torch.int64)

    def refuse(pixels: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        sampler.fill(x, torch.zeros_like(x, dtype=torch.bool), progress=refuse)
    assert torch.equal(x[:, :, :1], expected[:, :, :1]), "the first row was done"
    assert torch.equal(model.sample(2), expected)


# ---- people's mistakes -----------------------------------------------------------------------------


def test_a_model_without_a_program_says_so():
    class Constant(AutoregressiveModel):
        def __init__(self) -> None:
            super().__init__((1, 2, 2), 2)
            self.logit = torch.nn.Parameter(torch.zeros(()))

        def network(self, x: Tensor, labels: Tensor | None, condition: Tensor | None) -> Tensor:
            return self.logit + x * 0

    with pytest.raises(NotImplementedError, match="Constant has no pixel program: use method='naive'"):
        Constant().sample(2)
    assert Constant().sample(2, method="naive").shape == (2, 1, 2, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs must be \['plane'\], got \[\]"),
        ({"plane": torch.zeros(2, 3)}, r"input plane must have shape \(2, 3, 5, 4\), got \(2, 3\)"),
    ],
)
def test_wrong_inputs_are_named(inputs, message):
    x = torch.zeros(2, 1, 5, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        PixelSampler(map_program()).fill(x, x > 0, inputs=inputs)


def test_the_native_engine_names_memory_that_it_cannot_use():
    x = torch.zeros(2, 1, 4, 5, dtype=torch.int64).transpose(2, 3)
    plane = {"plane": torch.zeros(2, 3, 5, 4)}
    with pytest.raises(ValueError, match="contiguous tensors on cpu"):
        PixelSampler(map_program()).fill(x, x > 0, inputs=plane)


def test_what_was_written_in_parts_has_to_be_read_in_parts():
    builder = ProgramBuilder((1, 3, 3), 2)
    parts = builder.buffer("parts", 4)
    for first, last in ((0, 1), (1, 4)):
        weight = torch.ones(last - first, 1)
        builder.compute("part", [builder.image.at(0, -1)], weight, into=parts[first:last])
    both = builder.compute(
        "both", [builder.image.at(0, -1)], torch.ones(4, 1), function="relu", after=[parts]
    )
    builder.draw(builder.compute("logit", [both], torch.ones(1, 4)), "bernoulli")
    with pytest.raises(ValueError, match="both reads channels that were written in parts"):
        PixelSampler(builder.build(), "native")
