"""What happens in a step: optimisers, schedules, averages, clipping, accumulation, precision."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import assert_same_run, config, start, weights

from genfast.training import BEST, TrainConfig, Trainer, evaluate, open_run
from genfast.training import trainer as trainer_module
from genfast.training.estimates import Evaluation
from genfast.training.objectives import StepFigures
from genfast.training.optimisers import OPTIMISERS, make_optimiser
from genfast.training.schedules import factor, make_schedule

WEIGHT = torch.nn.Parameter(torch.zeros(2))


def figures_of(trainer: Trainer) -> list[StepFigures]:
    """What every step measured, from here on."""
    seen: list[StepFigures] = []
    log = trainer.log.step

    def step(number: int, figures: StepFigures, *rest: Any) -> None:
        seen.append(figures)
        log(number, figures, *rest)

    trainer.log.step = step  # type: ignore[method-assign]
    return seen


# -- optimisers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({}, torch.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999)}),
        # PixelCNN++
        ({"beta1": 0.95, "beta2": 0.9995}, torch.optim.Adam, {"betas": (0.95, 0.9995)}),
        # Gated PixelCNN
        ({"optimizer": "rmsprop", "lr": 1e-4}, torch.optim.RMSprop, {"lr": 1e-4, "alpha": 0.99}),
        ({"optimizer": "rmsprop", "alpha": 0.95, "eps": 1e-3}, torch.optim.RMSprop, {"alpha": 0.95}),
        ({"optimizer": "adamw", "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
        ({"optimizer": "adamax", "beta1": 0.8}, torch.optim.Adamax, {"betas": (0.8, 0.999)}),
        ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
        ({"optimizer": "adagrad", "eps": 1e-6}, torch.optim.Adagrad, {"eps": 1e-6}),
    ],
)
def test_settings_reach_the_optimiser(
    settings: dict[str, Any], kind: type, expected: dict[str, Any]
) -> None:
    optimiser = make_optimiser(TrainConfig(**settings), [WEIGHT])
    assert type(optimiser) is kind
    assert {name: optimiser.defaults[name] for name in expected} == expected


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_trains_and_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {"optimizer": name, "lr": 0.1 if name == "sgd" else 0.01}
    if "momentum" in OPTIMISERS[name].settings:
        settings["momentum"] = 0.5
    whole = start(tmp_path / "whole", **settings)
    whole.run()
    assert np.mean(whole.history.losses[-5:]) < np.mean(whole.history.losses[:3])
    start(tmp_path / "parts", **settings, max_steps=13).run()
    resumed = Trainer.resume(tmp_path / "parts", quiet=True, max_steps=20)
    resumed.run()
    assert_same_run(whole, resumed)


def test_gradients_are_clipped_to_a_norm(tmp_path: Path) -> None:
    """Under plain gradient descent with rate 1 the step is the gradient."""
    trainer = start(tmp_path, optimizer="sgd", lr=1.0, clip_norm=0.01, max_steps=1)
    before, seen = weights(trainer), figures_of(trainer)
    trainer.run()
    change = [after - before[name] for name, after in weights(trainer).items()]
    norm = torch.linalg.vector_norm(torch.cat([c.flatten().double() for c in change])).item()
    assert seen[0].gradient_norm > 0.1
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_accumulated_parts_are_one_step(tmp_path: Path) -> None:
    """Their sizes differ: 119 or 120 images in 8 parts."""
    runs = [start(tmp_path / str(parts), accumulate=parts) for parts in (1, 8)]
    for run in runs:
        run.run()
    np.testing.assert_allclose(*(run.history.losses for run in runs), rtol=1e-5)


def test_a_gradient_that_is_not_a_number_stops_before_it_harms(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    kept = weights(trainer)
    first = next(trainer.model.parameters())
    first.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(trainer_module.TrainingError, match=r"gradient became \w+ at step 1"):
        trainer.run()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights(trainer).items())


# -- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"schedule": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40)),
        (
            {"schedule": "linear"},
            lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 1e-12, total_iters=40),
        ),
        (
            {"schedule": "exponential", "lr_decay": 0.9},
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        ),
        ({"schedule": "constant"}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_schedules_are_those_of_torch(settings: dict[str, Any], reference: Any) -> None:
    rates = []
    for make in (lambda o: make_schedule(TrainConfig(**settings), o, 40), reference):
        optimiser = torch.optim.SGD([WEIGHT], lr=0.5)
        schedule = make(optimiser)
        rates.append([])
        for _ in range(40):
            rates[-1].append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
    assert rates[0] == pytest.approx(rates[1], abs=1e-9)


def test_late_linear_is_constant_for_the_first_half() -> None:
    rates = [factor(TrainConfig(schedule="late-linear"), step, 8) for step in range(9)]
    assert rates == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]


def test_warm_up_comes_before_the_course() -> None:
    settings = TrainConfig(schedule="cosine", warmup_steps=4)
    rates = [factor(settings, step, 12) for step in range(12)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    assert factor(settings, 99, 12) == 0.0


def test_a_resumed_run_goes_on_with_its_schedule(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"schedule": "cosine", "warmup_steps": 3}
    whole = start(tmp_path / "whole", **settings)
    rates = [figures.learning_rate for figures in _run(whole)]
    assert rates == [0.01 * factor(whole.config, step, 20) for step in range(20)]
    start(tmp_path / "parts", **settings, max_steps=2).run()
    resumed = Trainer.resume(tmp_path / "parts", quiet=True, max_steps=20)
    assert [figures.learning_rate for figures in _run(resumed)] == rates[2:]
    assert_same_run(whole, resumed)


def _run(trainer: Trainer) -> list[StepFigures]:
    seen = figures_of(trainer)
    assert trainer.run()
    return seen


# -- the average of the weights --------------------------------------------------------------------


def test_the_average_is_what_is_evaluated_drawn_and_opened(tmp_path: Path) -> None:
    trainer = start(tmp_path, ema=0.25, epochs=1, sample_every=1, samples=3)
    expected: dict[str, torch.Tensor] = {}

    def average(*_: object) -> None:
        decay = min(0.25, (1 + trainer.step) / (10 + trainer.step))  # 0.25 from the third step on
        for name, tensor in weights(trainer).items():
            before = expected.get(name, tensor.double())
            expected[name] = decay * before + (1 - decay) * tensor.double()

    trainer.objective.optimizer.register_step_post_hook(average)
    trainer.run()
    opened = open_run(tmp_path).model.state_dict()
    for name, tensor in trainer.evaluated.state_dict().items():
        assert torch.equal(tensor, opened[name])
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(opened[name], tensor) for name, tensor in weights(trainer).items())
    result = evaluate(trainer.evaluated, trainer.data.validation, labels=True)
    assert trainer.history.validation[10] == pytest.approx(result.mean, rel=1e-6)
    other = evaluate(trainer.model, trainer.data.validation, labels=True)
    assert abs(other.mean - result.mean) > 1e-3
    resumed = Trainer.resume(tmp_path, quiet=True)
    assert_same_run(trainer, resumed)


# -- early stopping --------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third epoch is the best; a tie is no improvement; the run stops two epochs later."""
    in_an_epoch = 0.1  # where it was stopped: that does not count
    course = iter([1.5, 1.2, 1.0, in_an_epoch, 1.0, 1.3])
    monkeypatch.setattr(
        trainer_module,
        "evaluate",
        lambda *_, **__: Evaluation(mean=next(course), standard_error=0.0, count=1, dims=1),
    )
    settings: dict[str, Any] = {"early_stopping": 2, "epochs": 9}
    start(tmp_path, **settings, max_steps=35).run()  # it is stopped within the fourth epoch
    resumed = Trainer.resume(tmp_path, quiet=True, max_steps=None)
    assert resumed.run()
    assert resumed.step == 50
    best = open_run(tmp_path, file=BEST)
    assert best.checkpoint.tensors["history.losses"].numel() == 30
    assert Trainer.resume(tmp_path, quiet=True).run()  # it is over
    assert open_run(tmp_path).checkpoint.tensors["history.losses"].numel() == 50
    fresh = Trainer.start(config(**settings), tmp_path, overwrite=True, quiet=True)
    assert fresh.step == 0
    assert not (tmp_path / BEST).exists()


def test_a_validation_loss_that_is_not_a_number_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Evaluation(mean=math.nan, standard_error=0.0, count=1, dims=1)
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_, **__: nothing)
    with pytest.raises(trainer_module.TrainingError, match="validation loss became nan at step 10"):
        start(tmp_path).run()
    assert Trainer.resume(tmp_path, quiet=True).step == 0


# -- precision and compilation ---------------------------------------------------------------------


def test_bf16_follows_fp32_within_its_rounding(tmp_path: Path, whole: Trainer) -> None:
    """bf16 has 8 bits: the loss of the same weights agrees to 2^-8, and training goes as far."""
    half = start(tmp_path, precision="bf16")
    half.run()
    assert half.history.losses[0] != whole.history.losses[0]
    assert half.history.losses[0] == pytest.approx(whole.history.losses[0], rel=2**-8)
    assert half.history.losses[-1] == pytest.approx(whole.history.losses[-1], rel=0.02)
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}
    assert Trainer.resume(tmp_path, quiet=True).history == half.history


@pytest.mark.slow
def test_compiled_loss_is_the_same(tmp_path: Path, whole: Trainer) -> None:
    compiled = start(tmp_path, compile=True)
    compiled.run()
    np.testing.assert_allclose(compiled.history.losses, whole.history.losses, rtol=1e-4)


def test_threads_are_settled_and_saved(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    assert start(tmp_path / "a", max_steps=1).config.threads == 2
    torch.set_num_threads(1)
    Trainer.resume(tmp_path / "a", quiet=True)
    assert torch.get_num_threads() == 2
    start(tmp_path / "b", threads=1, max_steps=1)
    assert torch.get_num_threads() == 1
