"""Training autoencoders of all kinds: from the command line, with exact resumption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import run_ranks
from training_runs import assert_same_run

from genfast import cli
from genfast.models import MODELS
from genfast.training import ConfigError, TrainConfig, Trainer, open_run
from genfast.training.budget import is_done
from genfast.training.history import History

#: Settings of every model at a size at which a step takes milliseconds.
SIZES: dict[str, dict[str, Any]] = {
    "autoencoder": {"hidden": 16, "latent_dim": 4},
    "vae": {"hidden": 16, "latent_dim": 4},
    "vamp-prior-vae": {"hidden": 16, "latent_dim": 4, "components": 20},
    "exemplar-vae": {"hidden": 16, "latent_dim": 4, "neighbours": 3},
    "exemplar-vae (sampled)": {
        "hidden": 16, "latent_dim": 4, "neighbours": 0, "exemplars_per_step": 300,
    },
    "exemplar-vae (lists)": {
        "hidden": 16, "latent_dim": 4, "neighbours": 3, "exemplars_per_step": 600, "index": "ivf",
        "refresh_every": 7, "normaliser": "reference",
    },
}  # fmt: skip
VARIATIONAL = [name for name in SIZES if name != "autoencoder"]
#: The one with something of its own to share between processes.
SHARED = ["exemplar-vae"]


def config(model: str, **settings: Any) -> TrainConfig:
    """Of a model; in brackets stands which of its variants it is."""
    usual: dict[str, Any] = {"kl_warmup": 2, "binarise": "dynamic"} if model in VARIATIONAL else {}
    common: dict[str, Any] = {
        "data": "digits", "batch_size": 120, "sample_every": 0, "epochs": 2, "seed": 3,
        "optimizer": "adam-norm-grad", "lr": 2e-3,
    }  # fmt: skip
    return TrainConfig(
        **{**common, **usual, "model": model.split(" ")[0], "model_settings": SIZES[model], **settings}
    )


@pytest.fixture(scope="module", params=list(SIZES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer.start(config(request.param), tmp_path_factory.mktemp("run"), quiet=True)
    assert trainer.run()
    return trainer


def test_training_learns(trained: Trainer) -> None:
    assert np.mean(trained.history.losses[-5:]) < 0.95 * np.mean(trained.history.losses[:3])


@pytest.mark.parametrize("stop", [1, 10, 13])
def test_resumed_run_is_the_same_to_the_bit(tmp_path: Path, trained: Trainer, stop: int) -> None:
    first = Trainer.start(trained.config, tmp_path, quiet=True)
    first.config = first.config.continued({"max_steps": stop})
    first.run()
    torch.manual_seed(123)
    resumed = Trainer.resume(tmp_path, quiet=True, max_steps=20)
    assert resumed.step == stop
    resumed.run()
    assert_same_run(trained, resumed)


def test_command_line(trained: Trainer, tmp_path: Path, capsys: Any) -> None:
    name, run = trained.config.model, str(trained.run_dir)
    assert cli.main(["eval", run, "--json", str(tmp_path / "e.json"), "--max-images", "20"]) == 0
    rows = json.loads((tmp_path / "e.json").read_text())["results"]
    asked = ["eval", run, "--importance-samples", "30", "--json", str(tmp_path / "i.json")]
    drawn = ["sample", run, "-n", "5", "--out", str(tmp_path / "s.npz")]
    if name == "autoencoder":
        assert list(rows) == ["model"]
        assert rows["model"]["unit"] == "squared error"
        assert "nats" not in rows["model"]
        assert [cli.main(asked), cli.main(drawn)] == [2, 2]
        errors = capsys.readouterr().err
        assert "importance_samples: Autoencoder needs none, got 30" in errors
        assert "Autoencoder has no prior to draw images from" in errors
        return
    assert list(rows) == ["ELBO", "independent pixels"]
    assert [cli.main(asked), cli.main(drawn)] == [0, 0]
    written = json.loads((tmp_path / "i.json").read_text())
    assert written["importance_samples"] == 30
    elbo, estimate = (written["results"][row] for row in ("ELBO", "importance-sampled log-likelihood"))
    assert estimate["mean"] < elbo["mean"]  # negative log-likelihoods
    assert 0 < estimate["sampling_error"] < 1
    assert "30 importance samples an image" in capsys.readouterr().out
    images = np.load(tmp_path / "s.npz")
    assert images["images"].shape == (5, 8, 8, 1)
    assert images["levels"] == 256
    assert cli.main([*drawn, "--temperature", "0.5"]) == 2
    assert "--temperature: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SHARED else pytest.mark.slow) for n in SIZES if "lists" not in n],
)
def test_two_processes_take_the_steps_of_one_with_two_parts(tmp_path: Path, name: str) -> None:
    """Noise is drawn part by part, so that the parts have to be the same ones."""
    one = Trainer.start(config(name, accumulate=2, max_steps=12), tmp_path / "one", quiet=True)
    assert one.run()
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in SIZES[name].items()]
    if name in VARIATIONAL:
        flags += ["--kl-warmup", "2", "--binarise", "dynamic"]
    run_ranks(2, [
        "train", name.split(" ")[0], *flags, "--batch-size", "120", "--sample-every", "0", "--seed", "3",
        "--optimizer", "adam-norm-grad", "--lr", "2e-3", "--max-steps", "12", "--epochs", "2",
        "--out", str(tmp_path / "two"),
    ])  # fmt: skip
    two = open_run(tmp_path / "two")
    losses = two.checkpoint.tensors["history.losses"].numpy()
    np.testing.assert_allclose(losses, one.history.losses, rtol=1e-5)
    for key, tensor in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[key], tensor, rtol=1e-4, atol=1e-5)


def test_the_weight_of_the_kl_term_is_that_of_the_epoch(tmp_path: Path) -> None:
    """The first loss of each epoch, by hand."""
    trainer = Trainer.start(config("vae", kl_warmup=4, kl_weight=2.0), tmp_path, quiet=True)
    for epoch, weight in ((0, 0.5), (1, 1.0), (3, 2.0), (9, 2.0)):
        part = trainer.batches.parts(epoch * trainer.steps_per_epoch)[0]
        assert part.epoch == epoch
        assert trainer.objective.terms(part)["kl_weight"].item() == weight
        torch.manual_seed(part.seed)
        expected = trainer.model.loss(part.images.float(), kl_weight=weight)
        torch.testing.assert_close(trainer.objective._backward(part, True).float(), expected.detach())


def test_early_stopping_does_not_count_epochs_of_the_warm_up() -> None:
    def stops(epochs: int, best: int) -> bool:
        validation = {10 * e: 1.0 if e == best else 2.0 for e in range(1, epochs + 1)}
        history = History([1.0] * 10 * epochs, [0.1] * 10 * epochs, validation)
        return is_done(config("vae", early_stopping=3, kl_warmup=5, epochs=99), history, 10)

    assert [stops(epochs, best=1) for epochs in (4, 7, 8)] == [False, False, True]
    assert [stops(epochs, best=6) for epochs in (8, 9)] == [False, True]


def test_settings_that_a_model_does_not_have() -> None:
    with pytest.raises(ConfigError, match="kl_warmup: the model autoencoder has no KL term"):
        config("autoencoder", kl_warmup=3)
    with pytest.raises(ConfigError, match="kl_weight: the model gated-pixelcnn has no KL term"):
        TrainConfig(model="gated-pixelcnn", kl_weight=0.5)


def test_every_model_with_a_code_is_tested_here() -> None:
    latent = {
        name for name, kind in MODELS.items() if kind.__module__.startswith("genfast.models.latent")
    }
    assert latent == {name.split(" ")[0] for name in SIZES}


def test_adam_norm_grad_by_hand() -> None:
    """Adam on gradients of norm 1, a tensor each; the scale of the loss does not matter."""
    from genfast.training.optimisers import AdamNormGrad

    torch.manual_seed(0)
    plain, scaled = (torch.nn.Linear(3, 2) for _ in range(2))
    scaled.load_state_dict(plain.state_dict())
    reference = [weight.detach().clone().requires_grad_() for weight in plain.parameters()]
    adam = torch.optim.Adam(reference, lr=0.01)
    optimisers = [AdamNormGrad(m.parameters(), lr=0.01) for m in (plain, scaled)]
    for _ in range(3):
        x = torch.randn(5, 3)
        for model, optimiser, factor in zip((plain, scaled), optimisers, (1.0, 1e4), strict=True):
            optimiser.zero_grad()
            (model(x).square().mean() * factor).backward()
            optimiser.step()
        gradients = torch.autograd.grad(
            torch.nn.functional.linear(x, *reference).square().mean(), reference
        )
        for weight, gradient in zip(reference, gradients, strict=True):
            weight.grad = gradient / (gradient.norm() + 1e-7)
            assert math.isclose(weight.grad.norm().item(), 1, rel_tol=1e-3)
        adam.step()
    for weight, other, expected in zip(plain.parameters(), scaled.parameters(), reference, strict=True):
        torch.testing.assert_close(weight.detach(), expected.detach())
        torch.testing.assert_close(other.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
