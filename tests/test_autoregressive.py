"""What holds for every autoregressive model: a distribution, causal, differentiable, trainable."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from enumeration import all_images, dependencies, earlier, randomise
from scipy import stats
from tiny_models import NAMES, SIZES, class_of, tiny

import genfast
from genfast.models import MODELS
from genfast.models.autoregressive import AutoregressiveModel

each = pytest.mark.parametrize("name", NAMES)


def test_every_model_is_here():
    kinds = {kind for kind in MODELS.values() if issubclass(kind, AutoregressiveModel)}
    assert {class_of(name) for name in NAMES} == kinds


@each
@pytest.mark.parametrize(
    ("image_shape", "levels"), [((1, 2, 3), 2), ((1, 3, 2), 3), ((3, 1, 2), 3), ((1, 1, 1), 5)]
)
def test_probabilities_of_all_images_sum_to_one(name, image_shape, levels):
    model = tiny(name, image_shape, levels)
    log_prob = model.log_prob(all_images(image_shape, levels))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_prob.std() > 0.1, "the weights should make images differ"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pixelcnn-pp"])
def test_two_colours_are_colours_too(name):
    log_prob = tiny(name, (2, 2, 1), 3).log_prob(all_images((2, 2, 1), 3))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)


@each
def test_class_conditional_probabilities_sum_to_one_for_every_class(name):
    model = tiny(name, (1, 2, 2), 3, num_classes=4)
    images = all_images((1, 2, 2), 3)
    by_class = [model.log_prob(images, torch.full((len(images),), label)) for label in range(4)]
    assert [p.exp().sum().item() for p in by_class] == pytest.approx([1] * 4, abs=1e-12)
    assert (by_class[0] - by_class[1]).abs().max() > 0.1


@each
@pytest.mark.parametrize(
    "image_shape", [(1, 6, 7), (1, 5, 5), (3, 4, 5), (3, 3, 4), (1, 1, 9), (1, 9, 1)]
)
def test_jacobian_is_causal_over_pixels_and_colours(name, image_shape):
    model = tiny(name, image_shape, 4)
    jacobian = dependencies(model)
    assert torch.count_nonzero(jacobian[~earlier(model)]) == 0
    assert torch.count_nonzero(jacobian) > 0


@each
def test_rows_below_change_nothing(name):
    """What naive sampling relies on: the network on the first rows is the first rows of the network."""
    model = tiny(name, (3, 5, 4), 4)
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    whole = model.network(x)
    for rows in range(1, 5):
        torch.testing.assert_close(model.network(x[:, :, :rows]), whole[:, :, :rows])


@each
def test_every_parameter_gets_a_gradient(name):
    model = tiny(name, (3, 4, 4), 4, num_classes=2)
    model.loss(torch.randint(4, (2, 3, 4, 4)), torch.tensor([0, 1])).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@each
@pytest.mark.parametrize(("image_shape", "levels"), [((1, 5, 6), 2), ((3, 4, 5), 8)])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_equals_the_plain_twin(name, image_shape, levels, num_classes):
    model = tiny(name, image_shape, levels, num_classes=num_classes)
    twin = getattr(genfast.reference, type(model).__name__)(**model.config).double()
    twin.load_state_dict(model.state_dict())
    x = torch.randint(levels, (4, *image_shape))
    labels = torch.randint(num_classes, (4,)) if num_classes else None
    torch.testing.assert_close(model(x, labels), twin(x, labels), rtol=0, atol=1e-11)
    cotangent = torch.randn_like(model(x, labels))
    model(x, labels).backward(cotangent)
    twin(x, labels).backward(cotangent)
    for (key, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}")


@each
def test_likelihoods_agree_with_one_another(name):
    model = tiny(name, (3, 3, 4), 5)
    x = torch.randint(5, (6, 3, 3, 4))
    by_pixel = model.pixel_log_prob(x)
    assert by_pixel.shape == ((6, 1, 3, 4) if name == "pixelcnn-pp" else x.shape)
    torch.testing.assert_close(model.log_prob(x), by_pixel.sum((1, 2, 3)))
    bits = -model.log_prob(x).mean() / (math.log(2) * 3 * 3 * 4)
    torch.testing.assert_close(model.loss(x), bits)


@each
@pytest.mark.parametrize("levels", [2, 6])
def test_a_few_steps_of_training_lower_the_loss(name, levels):
    torch.manual_seed(0)
    model = class_of(name)((3, 6, 5), levels, **SIZES[name], num_classes=2)
    x = torch.randint(levels, (8, 1, 1, 1)).expand(8, 3, 6, 5).contiguous()  # of one colour each
    labels = torch.arange(8) % 2
    model.initialise_from_data(x, labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.loss(x, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# ---- sampling ------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize(("image_shape", "levels"), [((1, 2, 2), 3), ((3, 1, 2), 2)])
def test_samples_follow_the_enumerated_distribution(name, image_shape, levels):
    model = tiny(name, image_shape, levels).float()
    images = all_images(image_shape, levels)
    n = 10_000
    expected = model.log_prob(images).exp().detach().double() * n
    place = levels ** torch.arange(images[0].numel() - 1, -1, -1)
    observed = (model.sample(n, seed=3).flatten(1) * place).sum(1).bincount(minlength=len(images))
    common = expected >= 5  # pool the rest, as the chi-square approximation asks
    observed = torch.cat([observed[common], observed[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    keep = expected > 0
    test = stats.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False)
    assert test.pvalue > 1e-3
    wrong = stats.chisquare(observed[keep].numpy(), expected[keep].roll(1).numpy(), sum_check=False)
    assert wrong.pvalue < 1e-6, "the test should have the power to see a wrong distribution"


@each
def test_an_image_depends_on_its_number_only(name):
    model = tiny(name, (1, 3, 3), 4)
    together = model.sample(6, seed=5)
    assert torch.equal(together, torch.cat([model.sample(2, seed=5), model.sample(4, seed=5, start=2)]))
    assert not torch.equal(together, model.sample(6, seed=6))


@each
def test_completion_keeps_what_is_given(name):
    model = tiny(name, (3, 3, 4), 4)
    given = torch.randint(4, (5, 3, 3, 4))
    mask = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    mask[..., :2, :] = True
    done = model.sample(5, given=given, mask=mask, seed=1)
    assert torch.equal(done[:, :, :2], given[:, :, :2])
    assert not torch.equal(done[:, :, 2:], given[:, :, 2:])


@each
def test_low_temperature_draws_the_mode(name):
    model = tiny(name, (1, 2, 2), 3)
    cold = model.sample(8, temperature=1e-4, seed=1)
    assert (cold == cold[:1]).all()


# ---- as part of PyTorch --------------------------------------------------------------------------


@each
def test_config_rebuilds_the_architecture(name):
    model = tiny(name, (3, 4, 4), 8, num_classes=2)
    again = class_of(name)(**model.config).double()
    again.load_state_dict(model.state_dict())
    x, labels = torch.randint(8, (2, 3, 4, 4)), torch.tensor([0, 1])
    assert torch.equal(again.log_prob(x, labels), model.log_prob(x, labels))


@each
def test_every_setting_has_a_help_text(name):
    settings = list(inspect.signature(class_of(name)).parameters)
    assert settings[:2] == ["image_shape", "levels"]
    by_the_data = {"num_classes", "condition_channels"}
    assert list(class_of(name).SETTINGS) == [s for s in settings[2:] if s not in by_the_data]
    assert class_of(name).unit == "bits/dim"


@each
def test_runs_under_bf16_autocast(name):
    torch.manual_seed(0)
    model = class_of(name)((1, 6, 6), 4, **SIZES[name], num_classes=3)
    x, labels = torch.randint(4, (3, 1, 6, 6)), torch.tensor([0, 1, 2])
    exact = model.loss(x, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-2)


@each
def test_a_copy_is_independent(name):
    model = tiny(name, (1, 3, 3), 4)
    x = torch.randint(4, (2, 1, 3, 3))
    before, twin = model.log_prob(x), copy.deepcopy(model)
    randomise(twin, seed=1)
    assert torch.equal(model.log_prob(x), before)
    assert not torch.equal(twin.log_prob(x), before)
