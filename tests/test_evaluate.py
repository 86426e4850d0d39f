"""Evaluation: exact means and intervals, baselines, and the same bits from any number of processes."""

from __future__ import annotations

import importlib
import json
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import run_ranks
from training_runs import TINY, start

from genfast import cli
from genfast.data import Split, load
from genfast.models import MODELS
from genfast.training import BEST, Trainer, evaluate, independent_pixels
from genfast.training.checkpoint import read_checkpoint, write_checkpoint
from genfast.training.estimates import Evaluation, Moments
from genfast.training.evaluate import spread

# -- mean, error, interval -------------------------------------------------------------------------


def summarise(values: torch.Tensor, size: int, dims: int, unit: str) -> Evaluation:
    return Evaluation.of(Moments.merged(map(Moments.of, values.split(size))), dims, unit)


@pytest.mark.parametrize("size", [1, 7, 100, 299, 1000])
def test_mean_and_error_are_exact_for_any_batches(size: int) -> None:
    values = torch.randn(299, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    bits, nats = (summarise(values, size, 64, unit) for unit in ("bits/dim", "nats"))
    scale = 64 * math.log(2)
    exact = math.fsum(values.tolist()) / 299
    error = values.std().item() / math.sqrt(299)
    assert bits.count == nats.count == 299
    assert nats.mean == pytest.approx(exact, rel=1e-14)
    assert nats.standard_error == pytest.approx(error, rel=1e-9)
    assert bits.mean == pytest.approx(exact / scale, rel=1e-14)
    assert bits.standard_error == pytest.approx(error / scale, rel=1e-9)
    for result in (bits, nats):
        assert result.nats == pytest.approx(exact, rel=1e-14)
        assert result.bits_per_dim == pytest.approx(exact / scale, rel=1e-14)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 31, 32, 100, 1000])
def test_interval_has_the_probability_it_claims(count: int) -> None:
    """The density of Student's t, integrated over the interval in standard errors."""
    freedom = count - 1
    half = Evaluation(0.0, 1.0, count, 4).interval[1]
    # P(|t| < half) with t = sqrt(freedom) tan(angle): no tail is cut off.
    angle = np.linspace(0, math.atan(half / math.sqrt(freedom)), 100_001)
    density = np.cos(angle) ** (freedom - 1)
    integral = ((density[1:] + density[:-1]) / 2).sum() * (angle[1] - angle[0])
    log_scale = math.lgamma(count / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    assert 2 * integral * math.exp(log_scale) == pytest.approx(0.95, abs=1e-8)


def test_large_samples_take_the_normal_interval() -> None:
    large = Evaluation(10.0, 1.0, 1001, 4)
    assert large.interval == pytest.approx((8.040036, 11.959964), abs=1e-6)
    assert large.interval_method == "normal"
    below = Evaluation(10.0, 1.0, 1000, 4)
    assert below.interval_method == "Student t, 999 degrees of freedom"
    assert below.interval[1] - large.interval[1] < 0.0025


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    draws = 3.0 + 2.0 * torch.randn(4000, 6, generator=torch.Generator().manual_seed(1))
    intervals = [Evaluation.of(Moments.of(row), 1, "nats").interval for row in draws]
    covered = sum(low < 3.0 < high for low, high in intervals) / len(intervals)
    assert covered == pytest.approx(0.95, abs=0.014)  # four standard deviations


def test_one_image_has_no_error_and_none_has_no_mean() -> None:
    single = Evaluation.of(Moments.of(torch.ones(1)), 4)
    assert math.isnan(single.standard_error)
    assert all(map(math.isnan, single.interval))
    values = json.loads(json.dumps(single.to_dict(), allow_nan=False))
    assert values["standard_error"] is None
    assert values["interval_95"] is None
    with pytest.raises(ValueError, match="no images"):
        Evaluation.of(Moments.of(torch.zeros(0)), 4)
    with pytest.raises(ValueError, match=r"unit must be .* got 'bits'"):
        Evaluation.of(Moments.of(torch.ones(2)), 4, "bits")


# -- models and baselines --------------------------------------------------------------------------


def test_evaluate_uses_every_image_with_its_label(whole: Trainer) -> None:
    split = whole.data.test
    with torch.no_grad():
        each = -whole.model.log_prob(split.images.long(), split.labels).double()
    whole.model.train()
    for size in (64, 299):
        result = evaluate(whole.model, split, labels=True, batch_size=size)
        assert result.unit == "bits/dim"
        assert result.nats == pytest.approx(each.mean().item(), rel=1e-5)
        error = each.std().item() / math.sqrt(299) / 64 / math.log(2)
        assert result.standard_error == pytest.approx(error, rel=1e-4)
    assert whole.model.training  # left as it was found


def test_a_model_in_nats_is_reported_in_nats(whole: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = evaluate(whole.model, whole.data.test, labels=True)
    monkeypatch.setattr(type(whole.model), "unit", "nats")
    nats = evaluate(whole.model, whole.data.test, labels=True)
    assert (nats.unit, nats.mean) == ("nats", nats.nats)
    assert nats.mean == pytest.approx(bits.nats, rel=1e-14)


def test_noise_of_a_batch_does_not_depend_on_who_computes_it(
    whole: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a bound that is estimated by draws, in whatever order the batches come."""
    monkeypatch.setattr(whole.model, "log_prob", lambda x, labels: torch.randn(len(x)).double())
    state = torch.get_rng_state()
    split = whole.data.test
    forward = evaluate(whole.model, split)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(forward.nats) < 4 / math.sqrt(299)  # every batch has draws of its own
    monkeypatch.setattr(
        importlib.import_module("genfast.training.evaluate"),
        "in_turn",
        lambda items, work, processes: [work(item) for item in reversed(items)],
    )
    torch.manual_seed(99)
    assert evaluate(whole.model, split).mean == pytest.approx(forward.mean, rel=1e-12)
    assert evaluate(whole.model, split, seed=1).mean != pytest.approx(forward.mean, rel=1e-3)


def test_evaluation_holds_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits", levels=2)
    model = MODELS["gated-pixelcnn"](data.image_shape, 2, channels=4, layers=2)
    seen: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def log_prob(x: torch.Tensor, labels: None) -> torch.Tensor:
        alive.append(sum(reference() is not None for reference in seen))
        result = x.sum((1, 2, 3)).double()
        seen.extend([weakref.ref(x), weakref.ref(result)])
        return result

    monkeypatch.setattr(model, "log_prob", log_prob)
    assert evaluate(model, data.train, batch_size=100).count == len(data.train)
    assert len(alive) == 12
    assert max(alive) == 0


def test_a_part_of_a_split_is_spread_over_it() -> None:
    split = Split(torch.arange(299), torch.arange(299) % 10)
    part = spread(split, 100)
    assert len(part) == 100
    assert part.images.diff().unique().tolist() == [2, 3]
    assert part.images[0] == 0
    assert part.labels is not None
    assert (part.labels == part.images % 10).all()
    assert spread(split, 299) is split
    assert spread(split, None) is split


def test_independent_pixels_by_hand() -> None:
    images = torch.tensor([[0, 1], [0, 1], [2, 1], [0, 0]], dtype=torch.uint8).view(4, 1, 1, 2)
    train = Split(images[:3], torch.tensor([0, 0, 1]))
    test = Split(images[3:], torch.tensor([1]))
    # Pixel 0: counts 2+1, 0+1, 1+1 of 6; pixel 1: 0+1, 3+1, 0+1 of 6.
    expected = -(math.log2(3 / 6) + math.log2(1 / 6)) / 2
    assert independent_pixels(train, test, 3).bits_per_dim == pytest.approx(expected)
    # Class 1 has one training image, (2, 1).
    expected = -(math.log2(1 / 4) + math.log2(1 / 4)) / 2
    result = independent_pixels(train, test, 3, num_classes=2)
    assert result.bits_per_dim == pytest.approx(expected)


def test_independent_pixels_do_not_depend_on_the_batches() -> None:
    data = load("digits", levels=5)
    counts = np.ones((64, 5))
    for image in data.train.images.flatten(1).numpy():
        counts[np.arange(64), image] += 1
    log_probs = np.log2(counts / counts.sum(1, keepdims=True))
    test = data.test.images.flatten(1).numpy()
    expected = -log_probs[np.arange(64), test].mean()
    result = independent_pixels(data.train, data.test, 5)
    assert result.bits_per_dim == pytest.approx(expected, rel=1e-12)


# -- command ---------------------------------------------------------------------------------------


def test_eval_prints_and_writes_the_same_figures(whole: Trainer, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "figures.json"
    run = str(whole.run_dir)
    assert cli.main(["eval", run, "--batch-size", "100", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert (figures["run"], figures["data"], figures["split"]) == (run, "digits", "test")
    for name, result in figures["results"].items():
        line = next(line for line in out.splitlines() if line.startswith(f"{name}  "))
        low, high = result["interval_95"]
        assert f" {result['mean']:.4f} +- {result['standard_error']:.4f} bits/dim " in line
        assert f" [{low:.4f}, {high:.4f}] " in line
        assert f" {result['nats']:.2f} nats an image" in line
        assert result["count"] == 299
        assert low < result["mean"] < high
    assert set(figures["results"]) == {
        "model",
        "independent pixels",
        "independent pixels given the class",
    }
    assert out.endswith("95 % interval: Student t, 298 degrees of freedom\n")


def test_eval_of_some_images(whole: Trainer, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "figures.json"
    flags = ["--max-images", "50", "--split", "validation", "--json", str(path)]
    assert cli.main(["eval", str(whole.run_dir), *flags]) == 0
    result = json.loads(path.read_text())["results"]["model"]
    expected = evaluate(whole.model, spread(whole.data.validation, 50), labels=True)
    assert (result["count"], result["mean"]) == (50, expected.mean)
    assert "digits, validation, 50 images" in capsys.readouterr().out


def test_the_best_weights_can_be_evaluated(tmp_path: Path, capsys: Any) -> None:
    trainer = start(tmp_path / "run", epochs=2, early_stopping=2)
    trainer.run()
    best = tmp_path / "run" / BEST
    checkpoint = read_checkpoint(best)
    for name in checkpoint.part("model"):
        checkpoint.tensors[f"model.{name}"].zero_()  # every level as likely as the other
    write_checkpoint(best, checkpoint)
    path = tmp_path / "figures.json"
    for flags, exact in (["--best"], True), ([], False):
        assert cli.main(["eval", str(best.parent), *flags, "--json", str(path)]) == 0
        mean = json.loads(path.read_text())["results"]["model"]["mean"]
        assert (mean == pytest.approx(1.0, rel=1e-6)) is exact
    assert cli.main(["sample", str(best.parent), "--best", "--out", str(tmp_path / "a.npz")]) == 0
    level = np.load(tmp_path / "a.npz")["images"].mean() / 255
    assert level == pytest.approx(0.5, abs=0.03)  # 4096 fair coins
    best.unlink()
    assert cli.main(["eval", str(best.parent), "--best"]) == 2
    assert "best.safetensors: not found" in capsys.readouterr().err


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_gives_the_same_figures(
    world: int, whole: Trainer, tmp_path: Path, capsys: Any
) -> None:
    """Equal to the bit, and only the main process speaks; 299 images: the last batch is short."""
    command = ["eval", str(whole.run_dir), "--batch-size", str(TINY["batch_size"] // 3)]
    assert cli.main([*command, "--json", str(tmp_path / "one.json")]) == 0
    outputs = run_ranks(world, [*command, "--json", str(tmp_path / "many.json")])
    assert outputs == [capsys.readouterr().out] + [""] * (world - 1)
    assert (tmp_path / "many.json").read_text() == (tmp_path / "one.json").read_text()
