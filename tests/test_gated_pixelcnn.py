"""GatedPixelCNN: no blind spot, its conditions and borders, and sampling by a softmax head."""

from __future__ import annotations

import math

import pytest
import torch
from enumeration import all_images, dependencies, earlier, randomise
from scipy import stats

import genfast
from genfast.models import GatedPixelCNN


def tiny(image_shape, levels, **changes) -> GatedPixelCNN:
    model = GatedPixelCNN(image_shape, levels, **{"channels": 7, "layers": 3} | changes).double()
    randomise(model)
    return model


@pytest.mark.parametrize("image_shape", [(1, 6, 7), (3, 3, 4)])
def test_no_blind_spot(image_shape):
    """Within the reach of the kernels every earlier value has an influence, row 0 included."""
    model = GatedPixelCNN(image_shape, 4, 32, 5).double()
    randomise(model)
    jacobian = dependencies(model)
    earlier = torch.tril(torch.ones_like(jacobian), diagonal=-1).bool()
    assert (jacobian[earlier] != 0).all()


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


# ---- spatial conditions, borders, skips -----------------------------------------------------------

OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {"condition_channels": 2},
        {"border": "bias"},
        {"skip": True},
        {"condition_channels": 2, "num_classes": 3, "border": "bias", "skip": True},
    ],
    ids=lambda options: "-".join(options),
)


def conditions(model: GatedPixelCNN, n: int) -> dict[str, torch.Tensor]:
    """Something for `n` images to be conditioned on, as far as the model asks for it."""
    given = {}
    if model.num_classes:
        given["labels"] = torch.arange(n) % model.num_classes
    if model.condition_channels:
        _, height, width = model.image_shape
        generator = torch.Generator().manual_seed(0)
        shape = (1, model.condition_channels, height, width)
        condition = torch.randn(shape, generator=generator, dtype=torch.float64)
        given["condition"] = condition.expand(n, -1, -1, -1)
    return given


@OPTIONS
@pytest.mark.parametrize("layers", [1, 3])
def test_with_options_probabilities_sum_to_one(options, layers):
    model = tiny((1, 2, 2), 3, layers=layers, **options)
    images = all_images((1, 2, 2), 3)
    given = conditions(model, 1)
    given = {name: tensor.expand(len(images), *tensor.shape[1:]) for name, tensor in given.items()}
    assert model.log_prob(images, **given).exp().sum().item() == pytest.approx(1, abs=1e-12)


@OPTIONS
def test_with_options_it_is_causal_and_every_parameter_is_used(options):
    model = tiny((3, 4, 5), 4, **options)
    jacobian = dependencies(model, **conditions(model, 1))
    assert torch.count_nonzero(jacobian[~earlier(model)]) == 0
    model.loss(torch.randint(4, (3, 3, 4, 5)), **conditions(model, 3)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@OPTIONS
@pytest.mark.parametrize("layers", [1, 3])
def test_with_options_it_equals_the_plain_twin(options, layers):
    model = tiny((3, 4, 5), 4, layers=layers, **options)
    twin = genfast.reference.GatedPixelCNN(**model.config).double()
    twin.load_state_dict(model.state_dict())
    x, given = torch.randint(4, (3, 3, 4, 5)), conditions(model, 3)
    torch.testing.assert_close(model(x, **given), twin(x, **given), rtol=0, atol=1e-12)


def test_a_condition_reaches_both_stacks_of_every_block_and_is_not_masked():
    model = tiny((1, 5, 5), 4, condition_channels=2)
    x = torch.randint(4, (1, 1, 5, 5))
    condition = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    model(x, condition=condition)[0, ..., 2, 2].sum().backward()
    seen = condition.grad[0].abs().sum(0) > 0
    assert seen[:2].all(), "by the vertical stack, all rows above"
    assert seen[2].tolist() == [True, True, True, False, False], (
        "by the horizontal one, its own pixel too"
    )
    assert not seen[3:].any()
    for block in model.blocks:
        for conv in (block.vertical_condition, block.horizontal_condition):
            assert (conv is None) == (block.last and conv is block.vertical_condition)
            assert conv is None or conv.weight.grad.any()


def test_conditional_sampling_follows_the_conditional_distribution():
    model = tiny((1, 1, 2), 3, condition_channels=1).float()
    condition = torch.tensor([[[[0.5, -2.0]]]])
    n = 10_000
    drawn = model.sample(n, seed=2, condition=condition.expand(n, -1, -1, -1))
    images = all_images((1, 1, 2), 3)
    expected = model.log_prob(images, condition=condition.expand(9, -1, -1, -1)).exp().detach() * n
    observed = (drawn[:, 0, 0, 0] * 3 + drawn[:, 0, 0, 1]).bincount(minlength=9).double()
    assert stats.chisquare(observed.numpy(), expected.numpy(), sum_check=False).pvalue > 1e-3
    other = model.log_prob(images, condition=-condition.expand(9, -1, -1, -1)).exp().detach() * n
    assert stats.chisquare(observed.numpy(), other.numpy(), sum_check=False).pvalue < 1e-6


def test_borders_differ_only_where_the_border_reaches():
    """Without the first vertical kernel's top row both conventions see the same rows: from row L on
    they agree exactly, above they do not, since one feeds row 0 zeros and the other biases.
    """
    layers, shape = 3, (1, 7, 4)
    zero, bias = tiny(shape, 4, layers=layers), tiny(shape, 4, layers=layers, border="bias")
    weights = zero.state_dict()
    first = "blocks.0.vertical.weight"
    weights[first][:, :, 0] = 0
    bias.load_state_dict(weights | {first: weights[first][:, :, 1:]})
    x = torch.randint(4, (2, *shape))
    zero.load_state_dict(weights)
    difference = (zero(x) - bias(x)).abs().amax((0, 1, 2, 4))
    assert (difference[layers:] < 1e-12).all()
    assert (difference[:layers] > 1e-3).all()


@pytest.mark.parametrize(("border", "biased"), [("zero", False), ("bias", True)])
def test_row_0_gets_zeros_or_biases_from_above(border, biased):
    model = tiny((1, 1, 4), 4, border=border)
    model.loss(torch.randint(4, (2, 1, 1, 4))).backward()
    assert [bool(block.vertical.bias.grad.any()) for block in model.blocks] == [biased] * 3
    assert not model.blocks[0].vertical.weight.grad.any(), "above there are no pixels"


# ---- sampling ------------------------------------------------------------------------------------


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
        ({"image_shape": (1, 4, 4), "levels": 2, "condition_channels": -1}, "condition_channels .* -1"),
        ({"image_shape": (1, 4, 4), "levels": 2, "border": "x"}, "border must be .* got 'x'"),
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
        (lambda m, x: m.log_prob(x, condition=x), ValueError, "condition given, but the model has none"),
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
        call(model, (torch.arange(18) % 4).view(2, 1, 3, 3))


@pytest.mark.parametrize(
    "labels", [None, torch.tensor([0]), torch.tensor([0, 3]), torch.tensor([0.0, 1.0])]
)
def test_wrong_labels_are_named(labels):
    model = tiny((1, 2, 2), 4, num_classes=3)
    with pytest.raises(ValueError, match="labels"):
        model.log_prob(torch.zeros(2, 1, 2, 2, dtype=torch.int64), labels)


@pytest.mark.parametrize(
    ("condition", "message"),
    [(None, "condition is needed: the model has 2"), (torch.zeros(2, 2, 3, 2), r"\(2, 2, 2, 2\), got")],
)
def test_wrong_conditions_are_named(condition, message):
    model = tiny((1, 2, 2), 4, condition_channels=2)
    with pytest.raises(ValueError, match=message):
        model.log_prob(torch.zeros(2, 1, 2, 2, dtype=torch.int64), condition=condition)
    with pytest.raises(ValueError, match=message):
        model.sample(2, condition=condition)


# ---- as part of PyTorch --------------------------------------------------------------------------


def test_compiles_whole_and_gives_the_same_gradients():
    model = GatedPixelCNN((1, 6, 6), 4, 8, 2)
    x = torch.randint(4, (3, 1, 6, 6))
    model.loss(x).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model.loss, fullgraph=True)(x).backward()
    for parameter, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_runs_in_other_dtypes(dtype):
    model = GatedPixelCNN((1, 4, 4), 4, 16, 2)
    x = torch.randint(4, (3, 1, 4, 4))
    exact = model.loss(x).item()
    assert model.to(dtype).loss(x).item() == pytest.approx(exact, rel=2e-2)
