"""What people see of a run: the bar, its unit, TensorBoard."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import config, start

from genfast.models import MODELS
from genfast.training import Trainer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("unit", ["bits/dim", "nats"])
def test_the_bar_and_the_lines_have_the_unit_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    screen, lines = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", lines)
    monkeypatch.setattr(MODELS["gated-pixelcnn"], "unit", unit)
    Trainer.start(config(epochs=1), tmp_path).run()
    last = screen.getvalue().split("\r")[-1]
    assert f" {unit}" in last
    assert "1199/1199" in last
    assert " images/s" in last
    assert f" {unit}, " in lines.getvalue()
    assert "train_loss,validation_loss" in (tmp_path / "metrics.csv").read_text()


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_the_history_also_after_a_stop(tmp_path: Path) -> None:
    """What was logged after the last checkpoint is hidden once the run has gone on from there."""
    settings = {"tensorboard": True, "log_every": 2, "sample_every": 1, "samples": 4}
    first = start(tmp_path, **settings, max_steps=5)
    first.save = lambda: None  # type: ignore[method-assign]
    first.run()
    log = events(tmp_path)
    assert [event.step for event in log.Scalars("loss/train")] == [2, 4]
    resumed = Trainer.resume(tmp_path, quiet=True, max_steps=20)
    assert resumed.step == 0
    resumed.run()
    log = events(tmp_path)
    train = {event.step: event.value for event in log.Scalars("loss/train")}
    assert list(train) == list(range(2, 21, 2))
    assert list(train.values()) == pytest.approx(resumed.history.losses[1::2])
    validation = {event.step: event.value for event in log.Scalars("loss/validation")}
    assert validation == pytest.approx(resumed.history.validation)
    assert all(event.value == pytest.approx(0.01) for event in log.Scalars("learning_rate"))
    assert all(event.value > 0 for event in log.Scalars("images_per_second"))
    assert all(event.value > 0 for event in log.Scalars("gradient_norm"))
    pictures = log.Images("samples")
    assert [picture.step for picture in pictures] == [10, 20]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")
