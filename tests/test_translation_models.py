"""Pix2Pix and CycleGAN: architectures, losses term by term, the pool, and what they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfast.models import CycleGAN, Pix2Pix
from genfast.models.adversarial.cyclegan import ResidualGenerator
from genfast.models.adversarial.image_pool import ImagePool
from genfast.models.adversarial.patch_discriminator import PatchDiscriminator
from genfast.models.adversarial.unet import UNet
from genfast.training import TrainConfig, Trainer

SHAPE = (2, 16, 16)


def pix2pix(**changes: Any) -> Pix2Pix:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"image_shape": SHAPE, "width": 4, "patch_layers": 1}
    return Pix2Pix(levels=17, input_channels=1, **settings | changes)


def cyclegan(**changes: Any) -> CycleGAN:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "image_shape": SHAPE,
        "width": 4,
        "patch_layers": 1,
        "blocks": 1,
        "pool": 3,
    }
    return CycleGAN(levels=17, input_channels=1, **settings | changes)


# -- architectures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_is_as_large_as_published(layers: int, patch: int) -> None:
    """By the Jacobian of one output."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(1, width=4, layers=layers).double().eval()
    x = torch.randn(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = judge(x)
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    for axis in (2, 3):
        seen = gradient.abs().amax(dim=5 - axis).flatten().nonzero().flatten()
        assert seen.max() - seen.min() + 1 == patch


def test_the_patch_discriminator_has_the_published_layers() -> None:
    judge = PatchDiscriminator(6)
    convolutions = [m for m in judge.layers if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0]) for c in convolutions] == [
        (64, 2), (128, 2), (256, 2), (512, 1), (1, 1)
    ]  # fmt: skip
    kinds = [type(module) for module in judge.layers]
    assert kinds.count(nn.BatchNorm2d) == 3
    assert nn.Sigmoid not in kinds
    assert judge(torch.zeros(1, 6, 256, 256)).shape == (1, 1, 30, 30)


def test_the_unet_of_256_pixels_is_the_published_one() -> None:
    with torch.device("meta"):
        net = UNet(3, 3, depth=8)
    down = [m for m in net.down.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in down] == [64, 128, 256, 512, 512, 512, 512, 512]
    up = [m for m in net.up.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in up[::-1]] == [
        (512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)
    ]  # fmt: skip
    dropped = [any(isinstance(m, nn.Dropout) for m in level.modules()) for level in net.up]
    assert dropped == [False] * 4 + [True] * 3 + [False]
    assert sum(p.numel() for p in net.parameters()) == 54_413_955  # unet_256 of the authors


def test_the_residual_generator_is_the_published_one() -> None:
    with torch.device("meta"):
        net = ResidualGenerator(3, 3, 64, 9)
    assert sum(p.numel() for p in net.parameters()) == 11_378_179  # resnet_9blocks with biases
    norms = [m for m in net.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert norms
    assert not any(m.affine or m.track_running_stats for m in norms)
    assert net(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, 3, 64, 64)
    with torch.device("meta"):
        models = [CycleGAN((6, size, size), 256, 3, width=1) for size in (128, 256)]
    blocks = [sum(type(m).__name__ == "ResidualBlock" for m in model.to_b) for model in models]
    assert blocks == [6, 9]


# -- losses ----------------------------------------------------------------------------------------


def pair(n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.rand(n, *SHAPE, dtype=torch.float64)
    return x, *(2 * x - 1).split(1, 1)


def test_the_losses_of_pix2pix_are_the_terms() -> None:
    model, (x, a, b) = pix2pix(dropout=0.0, l1_weight=7.0).double(), pair()
    fake = model.generator(a)
    judged = model.discriminator(torch.cat([a, fake], 1)).sigmoid()
    expected = -judged.log().mean() + 7.0 * (b - fake).abs().mean()
    torch.testing.assert_close(model.generator_loss(x), expected)
    real = model.discriminator(torch.cat([a, b], 1)).sigmoid()
    halved = -(real.log().mean() + (1 - judged).log().mean()) / 2
    torch.testing.assert_close(model.discriminator_loss(x), halved)
    assert model.turns(0) == ("discriminator", "generator")


@pytest.mark.parametrize("identity", [0.0, 0.5])
def test_the_losses_of_cyclegan_are_the_terms(identity: float) -> None:
    model, (x, a, b) = cyclegan(identity_weight=identity, pool=0).double(), pair()
    fake_b, fake_a = model.to_b(a), model.to_a(b)
    expected = (model.judge_b(fake_b) - 1).square().mean() + (model.judge_a(fake_a) - 1).square().mean()
    expected += 10 * (F.l1_loss(model.to_a(fake_b), a) + F.l1_loss(model.to_b(fake_a), b))
    expected += 10 * identity * (F.l1_loss(model.to_b(b), b) + F.l1_loss(model.to_a(a), a))
    torch.testing.assert_close(model.generator_loss(x).double(), expected, rtol=1e-5, atol=0)
    halved = torch.zeros((), dtype=torch.float64)
    model.float()
    x, a, b = x.float(), a.float(), b.float()
    for judge, real, fake in (
        (model.judge_a, a, model.to_a(b)),
        (model.judge_b, b, model.to_b(a)),
    ):
        halved += ((judge(real) - 1).square().mean() + judge(fake).square().mean()) / 2
    torch.testing.assert_close(model.discriminator_loss(x).double(), halved, rtol=1e-5, atol=0)
    assert model.turns(0) == ("generator", "discriminator")


def test_dropout_is_active_in_sampling_only_if_asked() -> None:
    model = pix2pix(dropout=0.5)
    a = torch.rand(2, 1, 16, 16)
    plain = model.sample(2, given=a)
    assert torch.equal(plain, model.sample(2, given=a, seed=1))
    noisy = [model.sample(2, given=a, seed=seed, dropout=True) for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], plain)
    assert model.training
    state = [
        module.running_mean.clone() for module in model.modules() if hasattr(module, "running_mean")
    ]
    model.sample(2, given=a, dropout=True)  # normalisation does not learn from it
    after = [module.running_mean for module in model.modules() if hasattr(module, "running_mean")]
    assert all(torch.equal(x, y) for x, y in zip(state, after, strict=True))


# -- the pool --------------------------------------------------------------------------------------


def numbered(first: int, last: int) -> Tensor:
    return torch.arange(float(first), last).view(-1, 1, 1, 1)


def test_a_pool_of_none_is_the_identity() -> None:
    images = torch.rand(4, 1, 2, 2)
    assert ImagePool(0, (1, 2, 2))(images) is images


def test_a_full_pool_swaps_half_of_the_time() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50, (1, 1, 1))
    assert torch.equal(pool(numbered(0, 50)), numbered(0, 50))  # it fills first
    given = pool(numbered(50, 4050)).flatten()
    old = given != torch.arange(50.0, 4050)
    assert old.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    assert (given[old] < torch.arange(50.0, 4050)[old]).all()
    # nothing is lost and nothing is given twice: what was shown and what is kept are all images once
    everything = torch.cat([given, pool.images.flatten()]).sort().values
    kept = pool.images.flatten()
    assert len(kept.unique()) == 50
    assert len(given.unique()) == len(given)
    assert everything.max() < 4050


def test_the_pool_is_in_the_state_and_only_training_uses_it() -> None:
    model, x = cyclegan(pool=2), torch.rand(3, *SHAPE)
    model.eval()
    model.discriminator_loss(x)
    assert model.pool_a.filled == 0
    model.train()
    model.discriminator_loss(x)
    assert model.state_dict()["pool_a.filled"] == 2
    assert model.state_dict()["pool_b.images"].abs().sum() > 0


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (pix2pix, {"depth": 5}, r"depth must be 0 to 4 for images of \(2, 16, 16\), got 5"),
        (
            pix2pix,
            {"patch_layers": 3},
            "patch_layers=3 needs images of at least 24x24 pixels, got 16x16",
        ),
        (pix2pix, {"l1_weight": -1.0}, r"l1_weight must be 0 or more, got -1\.0"),
        (pix2pix, {"dropout": 1.0}, "dropout must be 0 or more and less than 1"),
        (pix2pix, {"image_shape": (1, 16, 16)}, "input_channels must be 1 to 0"),
        (cyclegan, {"image_shape": (2, 18, 16)}, "image_shape must have sides that 4 divides"),
        (
            cyclegan,
            {"image_shape": (4, 16, 16)},
            "identity_weight must be 0 for domains of 1 and 3 channels",
        ),
        (cyclegan, {"pool": -1}, "pool must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_named(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_given_image_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"given must have shape \(2, 1, 16, 16\), got"):
        pix2pix().sample(2, given=torch.rand(2, 3, 16, 16))


# -- what they learn -------------------------------------------------------------------------------


def trained(tmp_path: Path, settings: dict[str, Any]) -> tuple[Any, Tensor, Tensor]:
    """The model after its training, and the held-out images of both domains."""
    config = TrainConfig.from_dict({"data": "digits", "sample_every": 0, "threads": 1, **settings})
    trainer = Trainer.start(config, tmp_path, quiet=True)
    assert trainer.run()
    a, b = (trainer.data.test.images.float() / 16).split(1, 1)
    return trainer.model, a, b


@pytest.mark.slow
def test_pix2pix_fills_in_outlines_better_than_copying_them(tmp_path: Path) -> None:
    model, a, b = trained(
        tmp_path,
        {
            "model": {"name": "pix2pix", "width": 16, "patch_layers": 2},
            **{"image_size": 16, "domains": "edges", "batch_size": 16, "epochs": 12},
        },
    )
    made = model.sample(len(a), given=a)
    assert (made - b).abs().mean() < (a - b).abs().mean() / 2
    blank = b.mean(0, keepdim=True)
    assert (made - b).abs().mean() < (blank - b).abs().mean() / 2


@pytest.mark.slow
def test_cyclegan_finds_a_map_that_is_known(tmp_path: Path) -> None:
    """Negatives, from images that have no partners; and back again."""
    model, a, b = trained(
        tmp_path,
        {
            "model": {
                **{"name": "cyclegan", "width": 12, "blocks": 2, "patch_layers": 1},
                "identity_weight": 0.0,
            },
            **{"image_size": 16, "domains": "negative", "batch_size": 8, "epochs": 20, "lr": 1e-3},
        },
    )
    made = model.sample(len(a), given=a)
    assert (made - b).abs().mean() < 0.1
    assert (made - b).abs().mean() < (a - b).abs().mean() / 5
    model.eval()
    with torch.no_grad():
        back = (model.to_a(2 * made - 1) + 1) / 2
    assert (back - a).abs().mean() < 0.1
