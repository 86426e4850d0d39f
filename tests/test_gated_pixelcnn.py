"""GatedPixelCNN: it is a distribution, it is causal, it has no blind spot, and it samples itself."""

from __future__ import annotations

import math

import pytest
import torch
from enumeration import all_images, dependencies, randomise
from scipy import stats

import genfast
from genfast.models import GatedPixelCNN

TINY = [
    ((1, 2, 3), 2),
    ((1, 3, 2), 3),
    ((3, 1, 2), 3),
    ((1, 1, 1), 5),
    ((2, 2, 1), 3),
]


def tiny(image_shape, levels, *, channels=7, layers=3, num_classes=0) -> GatedPixelCNN:
    model = GatedPixelCNN(image_shape, levels, channels, layers, num_classes).double()
    randomise(model)
    return model


@pytest.mark.parametrize(("image_shape", "levels"), TINY)
@pytest.mark.parametrize("layers", [1, 3])
def test_probabilities_of_all_images_sum_to_one(image_shape, levels, layers):
    model = tiny(image_shape, levels, layers=layers)
    log_prob = model.log_prob(all_images(image_shape, levels))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_prob.std() > 0.1, "the weights should make images differ"


def test_class_conditional_probabilities_sum_to_one_for_every_class():
    model = tiny((1, 2, 2), 3, num_classes=4)
    images = all_images((1, 2, 2), 3)
    totals, all_probs = [], []
    for label in range(4):
        log_prob = model.log_prob(images, torch.full((len(images),), label))
        totals.append(log_prob.exp().sum().item())
        all_probs.append(log_prob)
    assert totals == pytest.approx([1] * 4, abs=1e-12)
    assert (all_probs[0] - all_probs[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("image_shape", "channels", "layers"),
    [((1, 6, 7), 64, 4), ((3, 4, 5), 64, 4), ((3, 4, 4), 8, 2), ((1, 1, 9), 4, 2), ((1, 9, 1), 4, 2)],
)
def test_jacobian_is_causal_over_pixels_and_colours(image_shape, channels, layers):
    model = GatedPixelCNN(image_shape, 4, channels, layers).double()
    randomise(model)
    jacobian = dependencies(model)
    assert torch.count_nonzero(torch.triu(jacobian)) == 0


@pytest.mark.parametrize("image_shape", [(1, 6, 7), (3, 3, 4)])
def test_no_blind_spot(image_shape):
    """Within the reach of the kernels every earlier value has an influence, row 0 included."""
    model = GatedPixelCNN(image_shape, 4, 32, 5).double()
    randomise(model)
    jacobian = dependencies(model)
    earlier = torch.tril(torch.ones_like(jacobian), diagonal=-1).bool()
    assert (jacobian[earlier] != 0).all()


def test_receptive_field_grows_by_three_then_one_a_layer():
    """Per layer the closed form: rows up to 3 + (layers - 1) above, columns as far to either side."""
    size = 19
    for layers in (1, 2, 3):
        model = GatedPixelCNN((1, size, size), 4, 8, layers).double()
        randomise(model)
        centre = size // 2
        x = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        model.network(x, None)[0, :, centre, centre].sum().backward()
        seen = x.grad[0, 0] != 0
        # The vertical stack's rows end at the row above, one link further up.
        reach = 3 + (layers - 1)
        rows, columns = torch.nonzero(seen, as_tuple=True)
        assert centre - rows.min() == reach + 1
        assert centre - columns.min() == reach
        assert columns.max() - centre == reach
        assert rows.max() == centre
        assert columns[rows == centre].max() == centre - 1


@pytest.mark.parametrize("stack", ["vertical_class", "horizontal_class"])
def test_classes_reach_both_stacks_of_every_block(stack):
    model = tiny((1, 5, 5), 4, num_classes=3, layers=3)
    x = torch.randint(4, (2, 1, 5, 5))
    model.log_prob(x, torch.tensor([0, 2])).sum().backward()
    for i, block in enumerate(model.blocks):
        embedding = getattr(block, stack)
        if stack == "vertical_class" and i == 2:
            assert embedding is None  # the last vertical output does not exist
            continue
        used = embedding.weight.grad.abs().sum(1) > 0
        assert used.tolist() == [True, False, True]


def test_every_parameter_gets_a_gradient():
    model = tiny((3, 4, 4), 4, num_classes=2)
    model.loss(torch.randint(4, (2, 3, 4, 4)), torch.tensor([0, 1])).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("image_shape", "levels"), [((1, 5, 6), 2), ((3, 4, 5), 8)])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_equals_the_plain_twin(image_shape, levels, num_classes):
    model = tiny(image_shape, levels, channels=10, num_classes=num_classes)
    twin = genfast.reference.GatedPixelCNN(image_shape, levels, 10, 3, num_classes).double()
    twin.load_state_dict(model.state_dict())
    x = torch.randint(levels, (4, *image_shape))
    labels = torch.randint(num_classes, (4,)) if num_classes else None
    torch.testing.assert_close(model(x, labels), twin(x, labels), rtol=0, atol=1e-12)


def test_likelihoods_agree_with_one_another():
    model = tiny((3, 3, 4), 5)
    x = torch.randint(5, (6, 3, 3, 4))
    by_pixel = model.pixel_log_prob(x)
    assert by_pixel.shape == x.shape
    chosen = model(x).log_softmax(2).gather(2, x[:, :, None])[:, :, 0]
    torch.testing.assert_close(by_pixel, chosen)
    torch.testing.assert_close(model.log_prob(x), by_pixel.sum((1, 2, 3)))
    bits = -model.log_prob(x).mean() / (math.log(2) * 3 * 3 * 4)
    torch.testing.assert_close(model.loss(x), bits)


def test_a_model_that_knows_nothing_pays_log_levels():
    model = tiny((1, 4, 4), 256)
    torch.nn.init.zeros_(model.head[3].weight)
    torch.nn.init.zeros_(model.head[3].bias)
    assert model.loss(torch.randint(256, (2, 1, 4, 4))).item() == pytest.approx(8)


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image_shape", "levels"), [((1, 2, 3), 2), ((3, 1, 2), 2), ((1, 2, 2), 3)])
def test_samples_follow_the_enumerated_distribution(image_shape, levels):
    model = tiny(image_shape, levels).float()
    images = all_images(image_shape, levels)
    expected = model.log_prob(images).exp().detach()
    n = 10_000
    place = levels ** torch.arange(images[0].numel() - 1, -1, -1)
    observed = (model.sample(n, seed=3).flatten(1) * place).sum(1).bincount(minlength=len(images))
    common = expected * n >= 5  # pool the rest, as the chi-square approximation asks
    observed = torch.cat([observed[common], observed[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]]) * n
    keep = expected > 0
    test = stats.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False)
    assert test.pvalue > 1e-3
    wrong = stats.chisquare(observed[keep].numpy(), expected[keep].roll(1).numpy(), sum_check=False)
    assert wrong.pvalue < 1e-6, "the test should have the power to see a wrong distribution"


def test_an_image_depends_on_its_number_only():
    model = tiny((1, 3, 3), 4)
    together = model.sample(6, seed=5)
    assert torch.equal(together, torch.cat([model.sample(2, seed=5), model.sample(4, seed=5, start=2)]))
    assert not torch.equal(together, model.sample(6, seed=6))


def test_completion_keeps_what_is_given():
    model = tiny((3, 3, 4), 4)
    given = torch.randint(4, (5, 3, 3, 4))
    mask = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    mask[..., :2, :] = True
    done = model.sample(5, given=given, mask=mask, seed=1)
    assert torch.equal(done[:, :, :2], given[:, :, :2])
    assert not torch.equal(done[:, :, 2:], given[:, :, 2:])
    assert torch.equal(model.sample(5, given=given, mask=torch.ones_like(mask)), given)


def test_completion_follows_the_conditional_distribution():
    model = tiny((1, 1, 3), 3).float()
    given = torch.tensor([[[[2, 0, 0]]]]).expand(10_000, 1, 1, 3)
    mask = torch.tensor([[[[True, False, False]]]])
    drawn = model.sample(10_000, given=given, mask=mask, seed=2)
    images = all_images((1, 1, 3), 3)
    images = images[images[:, 0, 0, 0] == 2]
    expected = model.log_prob(images).softmax(0).detach() * 10_000
    observed = (drawn[:, 0, 0, 1] * 3 + drawn[:, 0, 0, 2]).bincount(minlength=9).double()
    assert stats.chisquare(observed.numpy(), expected.numpy(), sum_check=False).pvalue > 1e-3


def test_low_temperature_draws_the_mode():
    model = tiny((1, 2, 2), 3)
    cold = model.sample(8, temperature=1e-4, seed=1)
    assert (cold == cold[:1]).all()
    first = model(cold[:1])[0, 0, :, 0, 0].argmax()
    assert cold[0, 0, 0, 0] == first


def test_sampling_does_not_touch_the_mode_of_the_module_and_shows_progress(capsys):
    model = tiny((1, 2, 2), 2)
    model.train()
    model.sample(1, progress=True)
    assert model.training
    assert "sampling" in capsys.readouterr().err
    assert model.sample(0).shape == (0, 1, 2, 2)


# ---- people's mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (1, 0, 4), "levels": 2}, r"image_shape .*\(1, 0, 4\)"),
        ({"image_shape": (1, 4), "levels": 2}, r"image_shape .*\(1, 4\)"),
        ({"image_shape": (1, 4, 4), "levels": 1}, "levels must be at least 2, got 1"),
        ({"image_shape": (3, 4, 4), "levels": 2, "channels": 2}, "channels .* 3 colours .* got 2"),
        ({"image_shape": (1, 4, 4), "levels": 2, "layers": 0}, "layers must be at least 1, got 0"),
        ({"image_shape": (1, 4, 4), "levels": 2, "num_classes": -1}, "num_classes .* got -1"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        GatedPixelCNN(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: m.log_prob(x.float()), TypeError, "x must hold int64 levels, got torch.float32"),
        (lambda m, x: m.log_prob(x + 4), ValueError, r"x must hold levels in \[0, 4\), got 4..7"),
        (lambda m, x: m.log_prob(x[:, :, :, :2]), ValueError, r"x must have shape \(N, 1, 3, 3\)"),
        (lambda m, x: m.log_prob(x, torch.tensor([0, 0])), ValueError, "labels given, but"),
        (lambda m, x: m.sample(2, method="magic"), ValueError, "method .* 'magic'"),
        (lambda m, x: m.sample(2, temperature=0), ValueError, "temperature .* got 0"),
        (lambda m, x: m.sample(-1), ValueError, "n=-1"),
        (lambda m, x: m.sample(2, given=x), ValueError, "given and mask go together"),
        (
            lambda m, x: m.sample(2, given=x[:1], mask=x[:1] > 0),
            ValueError,
            r"given must have shape \(2,",
        ),
        (lambda m, x: m.sample(2, given=x, mask=x), TypeError, "mask must be a bool tensor"),
        (
            lambda m, x: m.sample(2, given=x, mask=torch.ones(5, dtype=torch.bool)),
            ValueError,
            r"mask of shape \(5,\) does not broadcast",
        ),
    ],
)
def test_methods_name_what_is_wrong(call, error, message):
    model = tiny((1, 3, 3), 4)
    with pytest.raises(error, match=message):
        call(model, torch.randint(4, (2, 1, 3, 3)))


@pytest.mark.parametrize(
    "labels", [None, torch.tensor([0]), torch.tensor([0, 3]), torch.tensor([0.0, 1.0])]
)
def test_wrong_labels_are_named(labels):
    model = tiny((1, 2, 2), 4, num_classes=3)
    with pytest.raises(ValueError, match="labels"):
        model.log_prob(torch.zeros(2, 1, 2, 2, dtype=torch.int64), labels)


# ---- as part of PyTorch --------------------------------------------------------------------------


def test_config_rebuilds_the_architecture():
    model = tiny((3, 4, 4), 8, num_classes=2)
    again = GatedPixelCNN(**model.config).double()
    again.load_state_dict(model.state_dict())
    x, labels = torch.randint(8, (2, 3, 4, 4)), torch.tensor([0, 1])
    assert torch.equal(again.log_prob(x, labels), model.log_prob(x, labels))


def test_compiles_whole_and_gives_the_same_gradients():
    model = GatedPixelCNN((1, 6, 6), 4, 8, 2)
    x = torch.randint(4, (3, 1, 6, 6))
    model.loss(x).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model.loss, fullgraph=True)(x).backward()
    for parameter, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_runs_under_bf16_autocast(num_classes):
    model = GatedPixelCNN((1, 6, 6), 4, 16, 2, num_classes)
    x = torch.randint(4, (3, 1, 6, 6))
    labels = torch.tensor([0, 1, 2]) if num_classes else None
    exact = model.loss(x, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_runs_in_other_dtypes(dtype):
    model = GatedPixelCNN((1, 4, 4), 4, 16, 2)
    x = torch.randint(4, (3, 1, 4, 4))
    exact = model.loss(x).item()
    assert model.to(dtype).loss(x).item() == pytest.approx(exact, rel=2e-2)
