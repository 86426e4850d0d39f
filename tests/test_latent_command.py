"""`genfast latent`, and what it is made of: neighbours, cache, classifier, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_latent_training import config

from genfast import cli
from genfast.data import load
from genfast.models import ExemplarVAE
from genfast.training import Trainer, open_run
from genfast.training.augmentation import ClassifierConfig, classifier_error
from genfast.training.cache_report import report_cache
from genfast.training.codes import knn_errors, mean_codes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer.start(config("exemplar-vae", epochs=3), tmp_path_factory.mktemp("e"), quiet=True)
    assert trainer.run()
    return trainer


def test_command(trained: Trainer, tmp_path: Path, capsys: Any) -> None:
    flags = ["--classifier-epochs", "1", "--classifier-hidden", "16", "--out", str(tmp_path)]
    assert cli.main(["latent", str(trained.run_dir), *flags]) == 0
    out = capsys.readouterr().out
    assert "hit rate" in out
    names = ("reconstructions", "neighbours", "interpolations", "latent-map")
    assert all((tmp_path / f"{name}.png").stat().st_size > 500 for name in names)
    written = json.loads((tmp_path / "latent.json").read_text())
    assert list(written["knn_errors"]) == ["3", "5", "7", "9", "11", "13", "15"]
    assert 0 < written["cache"]["hit_rate"] <= 1
    assert written["augmentation"]["settings"]["epochs"] == 1
    assert f"{100 * written['augmentation']['error_augmented']:.2f} %" in out


def test_command_on_other_models(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "ae"
    Trainer.start(config("autoencoder", max_steps=2), run, quiet=True).run()
    assert cli.main(["latent", str(run)]) == 0
    assert (run / "latent/neighbours.png").exists()
    assert not (run / "latent/interpolations.png").exists()
    assert "cache" not in capsys.readouterr().out
    assert cli.main(["latent", str(run), "--classifier-epochs", "1"]) == 2
    assert "autoencoder generates no images from images" in capsys.readouterr().err
    pixelcnn = tmp_path / "pixelcnn"
    assert cli.main(
        ["train", "pixelcnn", "--layers", "1", "--channels", "4", "--max-steps", "1", "--levels", "2",
         "--sample-every", "0", "--out", str(pixelcnn)]
    ) == 0  # fmt: skip
    assert cli.main(["latent", str(pixelcnn)]) == 2
    assert "pixelcnn has no code" in capsys.readouterr().err


def test_nearest_neighbours_vote() -> None:
    torch.manual_seed(0)
    known, labels = torch.randn(300, 4), torch.randint(3, (300,))
    asked, truth = torch.randn(50, 4), torch.randint(3, (50,))
    errors = knn_errors(known, labels, asked, truth, (1, 5))
    for k, error in errors.items():
        order = torch.cdist(asked.double(), known.double()).topk(k, largest=False).indices
        votes = [torch.bincount(labels[row], minlength=3).argmax() for row in order]
        assert error == (torch.stack(votes) != truth).double().mean().item()


def test_report_of_the_cache_against_brute_force(trained: Trainer) -> None:
    """After the last epoch: by what its own steps have written."""
    before = (trained.run_dir / "checkpoint.safetensors").read_bytes()
    report = report_cache(trained.run_dir, steps=2)
    assert (trained.run_dir / "checkpoint.safetensors").read_bytes() == before
    assert report is not None
    assert report.recall == 1  # a flat index
    step = trained.objective
    current = step.encoded(range(1199), 2)
    ids = torch.cat([torch.from_numpy(trained.batches.index(i)) for i in (30, 31)])

    def nearest(means: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(current[ids].double(), means.double())
        distances[torch.arange(len(ids)), ids] = torch.inf
        return distances.topk(3, largest=False).indices

    right, found = nearest(current), nearest(step.cache.means)
    hits = (found[:, :, None] == right[:, None]).any(1).double().mean().item()
    assert report.images == len(ids)
    assert report.hit_rate == pytest.approx(hits, abs=1e-9)
    assert 0.05 < hits < 1
    assert report.age == pytest.approx((30 - step.cache.written).double().mean().item())
    assert report_cache(trained.run_dir, steps=1).images == len(trained.batches.index(30))


def test_a_perfect_cache_hits_always(trained: Trainer) -> None:
    """Refreshed by the weights that the run ends with."""
    step = trained.objective
    current = step.encoded(step.cache.rows, 2)
    moved = (current - step.cache.means).abs().max()
    assert moved > 0
    found = step.cache.search(current, 3, exclude=torch.arange(1199))
    step.cache.refresh(current, step.step)
    again = step.cache.search(current, 3, exclude=torch.arange(1199))
    assert not torch.equal(found, again)


def test_generated_images_teach_a_classifier() -> None:
    """Of an Exemplar VAE that copies: its images are worth no less than the real ones."""

    class Copies(ExemplarVAE):
        def generate(self, x: torch.Tensor) -> torch.Tensor:
            self.asked = getattr(self, "asked", 0) + len(x)
            self.seen = x
            return x + 0.2 / 16  # rounded to a level, it is the same image

    data = load("digits")
    model = Copies((1, 8, 8), latent_dim=2, hidden=4)
    settings = ClassifierConfig(epochs=15, hidden=32)
    plain = classifier_error(model, data, settings, augment=False)
    assert not hasattr(model, "asked")
    copied = classifier_error(model, data, settings, augment=True)
    assert model.asked == 15 * len(data.train)
    assert len(model.seen.unique()) == data.levels == 17  # all levels, in [0, 1]
    assert model.seen.max() == 1
    assert copied == plain  # the same gradients
    assert plain < 0.1


def test_a_run_has_its_images_before_binarisation(trained: Trainer) -> None:
    run = open_run(trained.run_dir)
    binary, grey = run.load_data(), run.load_intensities()
    assert (binary.levels, grey.levels) == (2, 17)
    assert torch.equal(binary.train.labels, grey.train.labels)
    assert not binary.train.images[grey.train.images == 0].any()
    assert binary.train.images[grey.train.images == 16].all()


def test_codes_are_the_means(trained: Trainer) -> None:
    split = trained.data.test
    expected = trained.model.encode(split.images.float()).mean.detach()
    torch.testing.assert_close(mean_codes(trained.model, split, batch_size=77), expected)
