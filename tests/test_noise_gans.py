"""GAN and DCGAN: layers, initial weights, players, sampling."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from genfast.models import DCGAN, GAN
from genfast.models.adversarial.noise_gan import NoiseGAN

SHAPE = (1, 8, 8)
TINY: dict[type[NoiseGAN], dict[str, Any]] = {
    GAN: {"hidden": 8, "latent_dim": 5},
    DCGAN: {"width": 4, "latent_dim": 5},
}
each = pytest.mark.parametrize("kind", TINY)


def tiny(kind: type[NoiseGAN], **changes: Any) -> NoiseGAN:
    torch.manual_seed(0)
    model: NoiseGAN = kind(SHAPE, levels=17, **TINY[kind] | changes)  # type: ignore[call-arg]
    return model


def convolutions(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    ("size", "maps", "first"),
    [(64, [512, 256, 128, 64], 4), (32, [256, 128, 64], 4), (28, [128, 64], 7), (8, [64], 4)],
)
def test_the_layers_of_dcgan_are_the_published_ones(size: int, maps: list[int], first: int) -> None:
    model = DCGAN((3, size, size), levels=256)
    up = convolutions(model.generator, nn.ConvTranspose2d)
    assert [(c.in_channels, c.out_channels) for c in up] == list(
        zip([100, *maps], [*maps, 3], strict=True)
    )
    assert [(c.kernel_size, c.stride, c.padding) for c in up] == [
        ((first, first), (1, 1), (0, 0)),
        *[((4, 4), (2, 2), (1, 1))] * len(maps),
    ]
    down = convolutions(model.discriminator, nn.Conv2d)
    mirrored = [3, *maps[::-1], 1]
    assert [(c.in_channels, c.out_channels) for c in down] == list(pairwise(mirrored))
    assert all(c.bias is None for c in up + down)
    kinds = [type(module) for module in model.discriminator.layers]
    assert kinds[:3] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]  # the first without normalisation
    assert kinds.count(nn.BatchNorm2d) == len(maps) - 1
    assert nn.Sigmoid not in kinds
    assert isinstance(model.generator.layers[-1], nn.Tanh)
    assert all(module.negative_slope == 0.2 for module in convolutions(model, nn.LeakyReLU))
    assert model.generate(torch.zeros(2, 100)).shape == (2, 3, size, size)
    assert model.logits(torch.zeros(2, 3, size, size)).shape == (2,)


def test_initial_weights_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    model = DCGAN((3, 32, 32), levels=256)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.weight.numel() > 10_000:
            assert module.weight.mean().item() == pytest.approx(0, abs=1e-3)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.02)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert not module.bias.any()
            assert module.eps == nn.BatchNorm2d(1).eps


@each
def test_a_player_moves_its_own_weights_only(kind: type[NoiseGAN]) -> None:
    model, x = tiny(kind), torch.rand(6, *SHAPE)
    for player, other in (("discriminator", "generator"), ("generator", "discriminator")):
        model.zero_grad()
        model.player_loss(player, x).backward(inputs=model.player_weights(player))
        assert all(weight.grad is not None for weight in model.player_weights(player))
        assert all(weight.grad is None for weight in model.player_weights(other))


def test_the_discriminator_moves_more_often_if_asked() -> None:
    model = tiny(GAN, discriminator_steps=3)
    both = ("discriminator", "generator")
    assert [model.turns(step) for step in range(6)] == [both[:1], both[:1], both] * 2
    assert all(tiny(GAN).turns(step) == both for step in range(3))


@each
def test_an_image_depends_on_its_seed_and_number_alone(kind: type[NoiseGAN]) -> None:
    model = tiny(kind)
    whole = model.sample(6, seed=3)
    assert model.training
    noise = model.latents(6, seed=3)
    assert torch.equal(noise[2:], model.latents(4, seed=3, start=2))
    parts = torch.cat([model.sample(2, seed=3), model.sample(4, seed=3, start=2)])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)  # products of other sizes
    assert not torch.equal(whole, model.sample(6, seed=4))
    assert 0 <= whole.min() <= whole.max() <= 1


@pytest.mark.parametrize(
    ("prior", "deviation", "most"), [("normal", 1.0, 7.0), ("uniform", 3**-0.5, 1.0)]
)
def test_noise_has_the_law_asked_for(prior: Any, deviation: float, most: float) -> None:
    model = tiny(GAN, latent_dim=100, prior=prior)
    for z in (model.noise(2000), model.latents(2000, seed=1)):
        assert z.mean().item() == pytest.approx(0, abs=0.01)
        assert z.std().item() == pytest.approx(deviation, rel=0.01)
        assert z.abs().max() <= most
        kurtosis = (z / deviation).pow(4).mean().item()
        assert kurtosis == pytest.approx(3.0 if prior == "normal" else 1.8, rel=0.03)


@each
def test_the_same_model_can_be_built_again(kind: type[NoiseGAN]) -> None:
    model = tiny(kind, loss="minimax", discriminator_steps=2, prior="uniform")
    again = type(model)(**model.config)
    again.load_state_dict(model.state_dict())
    assert again.config == model.config
    assert torch.equal(again.sample(2), model.sample(2))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (GAN, {"hidden": 0}, "hidden must be at least 1, got 0"),
        (GAN, {"layers": 0}, "layers must be at least 1, got 0"),
        (GAN, {"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        (GAN, {"prior": "cauchy"}, "prior must be 'normal' or 'uniform', got 'cauchy'"),
        (GAN, {"loss": "hinge"}, "loss must be one of"),
        (GAN, {"discriminator_steps": 0}, "discriminator_steps must be at least 1, got 0"),
        (GAN, {"image_shape": (1, 0, 8)}, "image_shape must be .C, H, W."),
        (GAN, {"levels": 1}, "levels must be at least 2, got 1"),
        (DCGAN, {"width": 0}, "width must be at least 1, got 0"),
        (DCGAN, {"image_shape": (1, 9, 8)}, "image_shape must have even sides of at least 8"),
    ],
)
def test_bad_settings_are_named(kind: type[NoiseGAN], changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"image_shape": SHAPE, "levels": 17, **TINY[kind], **changes}
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_bad_input_is_named() -> None:
    model = tiny(GAN)
    with pytest.raises(ValueError, match=r"x must have shape .* got \(2, 1, 9, 8\)"):
        model.discriminator_loss(torch.rand(2, 1, 9, 8))
    with pytest.raises(TypeError, match=r"x must be floating-point images in \[0, 1\], got torch.int64"):
        model.discriminator_loss(torch.zeros(2, *SHAPE, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels given, but the model has no classes"):
        model.discriminator_loss(torch.rand(2, *SHAPE), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="n=-1 and start=0 must be at least 0"):
        model.sample(-1)
    assert model.sample(0).shape == (0, *SHAPE)
