"""Interpretable directions: what stays true of them in every step, and what they find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from genfast import cli
from genfast.models import DCGAN, ConditionalGAN, Pix2Pix
from genfast.models.adversarial import LatentDirections
from genfast.models.adversarial.background import (
    background_direction,
    foreground_mask,
    otsu_threshold,
    replace_background,
)
from genfast.models.adversarial.latent_directions import away_from_zero, shift_magnitudes
from genfast.models.adversarial.reconstructors import LeNetReconstructor, ResNetReconstructor
from genfast.training import TrainConfig, Trainer
from genfast.training.direction_files import directions_of
from genfast.training.directions import save_traversals, train_directions

kinds = pytest.mark.parametrize("kind", ["orthonormal", "unit"])


class Blobs(nn.Module):
    """z (N, 16) -> images (N, 1, 16, 16) of a blob.

    Four directions of z give its place, size and brightness, the twelve others do nothing.
    """

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(9)
        self.alive = torch.linalg.qr(torch.randn(dim, 4, generator=generator)).Q
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        x, y, size, brightness = torch.tanh(z @ self.alive / 4).T[..., None, None]
        line = torch.linspace(-1, 1, 16)
        squares = (line - 0.6 * x) ** 2 + (line[:, None] - 0.6 * y) ** 2
        blob = (0.6 + 0.4 * brightness) * torch.exp(-squares / (0.18 * torch.exp(1.2 * size)))
        return self.scale * blob.unsqueeze(1)


# -- what stays true -------------------------------------------------------------------------------


@kinds
def test_columns_stay_unit_or_orthonormal_after_every_step(kind: Any) -> None:
    torch.manual_seed(0)
    model = LatentDirections(Blobs(), 16, 4, kind, width=1).double()
    model.generator.double()  # type: ignore[attr-defined]
    model.generator.alive = model.generator.alive.double()  # type: ignore[attr-defined]
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    before = model.directions.detach().clone()
    for _ in range(4):
        optimiser.zero_grad()
        model.loss(4).backward()
        optimiser.step()
        gram = model.directions.T @ model.directions
        target = torch.eye(4, dtype=torch.float64)
        if kind == "unit":
            gram = gram.diagonal().diag()
        torch.testing.assert_close(gram, target, rtol=0, atol=1e-12)
    assert not torch.allclose(before, model.directions, atol=1e-3)


def test_the_generator_learns_nothing_and_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    gan = DCGAN((1, 8, 8), levels=17, width=4, latent_dim=6)
    state = {name: value.clone() for name, value in gan.generator.state_dict().items()}
    model = LatentDirections(gan.generator, 6, 3, width=1)
    names = {name for name, _ in model.named_parameters()}
    assert not any("generator" in name for name in names)
    model.loss(4).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in gan.generator.parameters())
    assert all(weight.requires_grad for weight in gan.generator.parameters())
    assert gan.generator.training
    assert all(torch.equal(value, state[name]) for name, value in gan.generator.state_dict().items())


def test_no_shift_is_small_and_zero_is_one_too() -> None:
    torch.manual_seed(0)
    shifts = shift_magnitudes(100_000)
    assert shifts.abs().min() == 0.5
    assert shifts.abs().max() <= 6
    assert shifts.mean().item() == pytest.approx(0, abs=0.05)
    clamped = (shifts.abs() == 0.5).float().mean().item()
    assert clamped == pytest.approx(0.5 / 6, abs=0.01)  # a point mass, not drawn again
    found = away_from_zero(torch.tensor([0.0, -0.0, 0.1, -0.1, 2.0, -3.0]), 0.5)
    assert found.tolist() == [0.5, 0.5, 0.5, -0.5, 2.0, -3.0]


def test_the_loss_is_cross_entropy_and_a_quarter_of_the_absolute_error() -> None:
    class Fixed(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
            self.pair = first, second
            return torch.tensor([[1.0, 2.0, 0.5]]).expand(len(first), 3), torch.full((len(first),), 0.3)

    fixed = Fixed()
    model = LatentDirections(Blobs(), 16, 3, reconstructor=fixed)
    torch.manual_seed(4)
    loss = model.loss(50)
    torch.manual_seed(4)
    z = torch.randn(50, 16)
    index, e = torch.randint(3, (50,)), shift_magnitudes(50)
    expected = F.cross_entropy(torch.tensor([[1.0, 2.0, 0.5]]).expand(50, 3), index)
    expected = expected + 0.25 * (0.3 - e).abs().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(fixed.pair[0], model.generate(z))
    moved = z + e[:, None] * model.directions.T[index]
    torch.testing.assert_close(fixed.pair[1], model.generate(moved))


def test_a_conditional_generator_is_given_classes() -> None:
    seen: list[Tensor] = []

    def generator(z: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return z[:, :1, None, None].expand(-1, 1, 8, 8) + labels[:, None, None, None]

    model = LatentDirections(generator, 6, 2, num_classes=3, width=1)
    model.loss(60)
    assert torch.equal(seen[0], seen[1])  # both images of a pair are of one class
    assert seen[0].bincount(minlength=3).min() > 5
    assert 0 <= model.accuracy(batches=2) <= 1
    z, labels = model.draw(4)
    assert model.traverse(z, 1, [-3, 0, 3], labels).shape == (4, 3, 1, 8, 8)


@pytest.mark.parametrize("make", [LeNetReconstructor, ResNetReconstructor])
@pytest.mark.parametrize("n", [1, 3])
def test_reconstructors_take_any_batch(make: Any, n: int) -> None:
    model = make(3, 5, width=2).eval()
    logits, shifts = model(*torch.rand(2, n, 3, 32, 32))
    assert (logits.shape, shifts.shape) == ((n, 5), (n,))


def test_resnet18_has_its_published_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in ResNetReconstructor(3, 1000).parameters())
    first, head = 64 * 3 * 49, 512 + 1  # three channels more in the first layer, one output more
    assert count == 11_689_512 + first + head


def test_a_traversal_goes_through_its_start() -> None:
    model = LatentDirections(Blobs(), 16, 2)
    z, _ = model.draw(3)
    images = model.traverse(z, 1, [-2.0, 0.0, 2.0])
    torch.testing.assert_close(images[:, 1], model.generate(z).detach())
    torch.testing.assert_close(images[:, 2], model.generate(z + 2 * model.directions[:, 1]).detach())


def test_energy_is_the_part_in_the_subspace() -> None:
    model = LatentDirections(Blobs(), 16, 16)
    basis = torch.linalg.qr(torch.randn(16, 5)).Q
    assert model.alive_energy(basis) == pytest.approx(5 / 16, rel=1e-4)  # of a whole rotation
    few = LatentDirections(Blobs(), 16, 3)
    assert few.alive_energy(few.directions.detach()) == pytest.approx(1, rel=1e-4)
    assert few.alive_energy(3 * few.directions.detach()[:, :1]) == pytest.approx(1 / 3, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 7}, "k must be 1 to 6 for orthonormal directions, got 7"),
        ({"k": 0, "parametrization": "unit"}, "k must be 1 to 0 for unit directions, got 0"),
        ({"parametrization": "linear"}, "parametrization must be 'orthonormal' or 'unit', got 'linear'"),
        ({"reconstructor": "vgg"}, "reconstructor must be 'lenet', 'resnet18' or a module, got 'vgg'"),
        ({"min_shift": 0.0}, "min_shift must be above 0"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentDirections(nn.Identity(), **{"latent_dim": 6, "k": 3, **changes})


def test_training_is_a_function_of_its_seed_and_leaves_a_picture(tmp_path: Path) -> None:
    gan = ConditionalGAN((1, 8, 8), levels=17, num_classes=3, width=8, latent_dim=6)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = LatentDirections(gan.generator, 6, 3, width=1, num_classes=3)
        state = torch.get_rng_state()
        losses = train_directions(model, steps=3, batch_size=4, seed=5)
        assert torch.equal(torch.get_rng_state(), state)
        results.append((losses, model.directions.detach()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    save_traversals(tmp_path / "traversals.png", model, magnitudes=(-6, 0, 6), label=1)
    with Image.open(tmp_path / "traversals.png") as picture:
        assert picture.size == ((9 * 3 + 1) * 6, (9 * 3 + 1) * 6)
    with pytest.raises(ValueError, match=r"label must be in \[0, 3\), got 3"):
        save_traversals(tmp_path / "traversals.png", model, label=3)
    with pytest.raises(ValueError, match="batch_size must be at least 2, got 1"):
        train_directions(model, steps=1, batch_size=1)


@pytest.mark.parametrize("name", ["conditional-gan", "adversarial-autoencoder"])
def test_a_run_gets_directions_from_the_command_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = {"model": {"name": name, "width": 8, "latent_dim": 6}, "max_steps": 2, "sample_every": 0}
    assert Trainer.start(TrainConfig.from_dict(settings), run, quiet=True).run()
    command = ["directions", str(run), "-k", "3", "--steps", "2", "--batch-size", "4", "--device", "cpu"]
    assert cli.main(command) == 0
    assert "changes the background most" in capsys.readouterr().out
    names = {file.name for file in (run / "directions").iterdir()}
    assert names == {"directions.safetensors", "figures.json", "traversals.png", "background.png"}
    found = load_file(run / "directions" / "directions.safetensors")["directions"]
    torch.testing.assert_close(found.T @ found, torch.eye(3), rtol=0, atol=1e-5)
    figures = json.loads((run / "directions" / "figures.json").read_text())
    scores = torch.tensor(figures["background_scores"])
    assert scores[figures["background_direction"]].max() == scores.max()
    assert cli.main([*command[:3], "9"]) == 2
    assert "k must be 1 to 6 for orthonormal directions, got 9" in capsys.readouterr().err


def test_a_translation_has_no_noise_to_move() -> None:
    model = Pix2Pix((2, 16, 16), levels=17, input_channels=1, width=4, patch_layers=1)
    with pytest.raises(ValueError, match="model: Pix2Pix makes no images from noise"):
        directions_of(model, 3)


# -- what they find --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_learned_directions_turn_into_the_subspace_that_shows(seed: int) -> None:
    """Four unit columns in 16 dimensions, of which 12 are dead; random ones have a quarter there."""
    blobs = Blobs()
    torch.manual_seed(seed)
    others = [LatentDirections(blobs, 16, 4, "unit", width=1) for _ in range(50)]
    random = sum(model.alive_energy(blobs.alive) for model in others) / len(others)
    assert random == pytest.approx(4 / 16, abs=0.05)
    model = LatentDirections(blobs, 16, 4, "unit", width=1, max_shift=3.0)
    train_directions(model, steps=600, lr=1e-3, directions_lr=1e-2, seed=seed)
    learned = model.alive_energy(blobs.alive)
    assert learned >= 0.5
    assert learned >= 2 * random
    assert model.accuracy(20) > 0.9


# -- the background --------------------------------------------------------------------------------


def scene(z: Tensor) -> Tensor:
    """A square of brightness z0 on a ground of brightness z1; z2 moves the square a little."""
    images = torch.zeros(len(z), 1, 16, 16) + torch.tanh(z[:, 1])[:, None, None, None]
    square = 0.2 * torch.tanh(z[:, 0])[:, None, None, None]
    images[:, :, 4:12, 4:12] = square
    return images


def test_the_direction_of_the_background_is_found_with_its_mask() -> None:
    model = LatentDirections(scene, 5, 4, "unit")
    with torch.no_grad():
        model.weight.copy_(torch.eye(5)[:, [2, 0, 1, 3]])
    found = background_direction(model, n=32)
    assert found.index == 2
    assert abs(found.magnitude) == 6
    assert found.scores.shape == (4, 2)
    assert found.scores[2].min() > 0 > found.scores[1].max()  # that of the square is the opposite
    z, _ = model.draw(5)
    masks = foreground_mask(model, found, z)
    expected = torch.zeros(5, 16, 16, dtype=torch.bool)
    expected[:, 4:12, 4:12] = True
    assert torch.equal(masks, expected)
    images, others = scene(z), torch.full((5, 1, 16, 16), 7.0)
    placed = replace_background(images, masks, others)
    assert torch.equal(placed[:, :, 4:12, 4:12], images[:, :, 4:12, 4:12])
    assert (placed.squeeze(1)[~masks] == 7).all()
    with pytest.raises(ValueError, match="images and backgrounds must be"):
        replace_background(images, masks[:2], others)


def test_otsus_threshold_parts_two_groups() -> None:
    torch.manual_seed(0)
    low, high = torch.randn(300) * 0.05 + 0.2, torch.randn(100) * 0.05 + 0.8
    threshold = otsu_threshold(torch.cat([low, high]))
    assert low.max() < threshold < high.min()
