"""PixelCNNPP: its head, its mistakes, and layouts of published parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_models import tiny

from genfast.models import PixelCNN, PixelCNNPP
from genfast.models.autoregressive.heads import LogisticMixtureHead
from genfast.models.autoregressive.pixelcnn_pp_import import (
    from_official,
    from_port,
    to_official,
    to_port,
)


def small(image_shape=(3, 4, 5), levels=8, **changes) -> PixelCNNPP:
    model = tiny("pixelcnn-pp", image_shape, levels, **{"resolutions": 3} | changes)
    assert isinstance(model, PixelCNNPP)
    return model


# ---- the head ------------------------------------------------------------------------------------


def test_loss_of_a_model_without_weights_is_that_of_one_logistic():
    """All outputs 0: one logistic of mean 0 and scale 1, whose masses are differences of sigmoids."""
    levels = 5
    model = small((3, 2, 3), levels)
    for parameter in (model.last.weight_g, model.last.bias):
        torch.nn.init.zeros_(parameter)
    x = torch.randint(levels, (4, 3, 2, 3))
    edges = (2 * torch.arange(levels - 1) - levels + 2).double() / (levels - 1)
    cumulative = torch.cat([torch.zeros(1), edges.sigmoid(), torch.ones(1)])
    bits = -cumulative.diff().log2()[x].mean()
    assert model.loss(x).item() == pytest.approx(bits.item(), rel=1e-12)


@pytest.mark.parametrize("colours", [1, 3])
def test_temperature_divides_logits_and_multiplies_scales(colours):
    head = LogisticMixtureHead(colours, 256, 2)
    outputs = torch.randn(500, head.outputs) * 3
    hot = outputs.clone()
    hot[:, :2] /= 3
    for first in range(4, head.outputs, 6 if colours == 3 else 4):
        hot[:, first : first + 2] = hot[:, first : first + 2].clamp(min=-7) + math.log(3)
    uniforms = torch.rand(500, head.draws)
    drawn = head.draw(outputs, uniforms, slice(0, colours), 3.0)
    same = drawn == head.draw(hot, uniforms, slice(0, colours), 1.0)
    assert same.all(1).float().mean() > 0.99  # the rest are draws at the edge of a level
    assert not torch.equal(drawn, head.draw(outputs, uniforms, slice(0, colours), 1.0))


def test_draws_at_a_temperature_follow_the_wider_mixture():
    """One component of mean 0.2 and scale 0.1: at temperature 2 the logistic of scale 0.2."""
    levels, n = 9, 20_000
    head = LogisticMixtureHead(1, levels, 1)
    outputs = torch.tensor([[0.0, 0.2, math.log(0.1)]]).expand(n, -1)
    uniforms = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    drawn = head.draw(outputs, uniforms, slice(0, 1), 2.0)
    assert drawn.shape == (n, 1)
    edges = np.arange(levels - 1) * 2 / (levels - 1) - 1 + 1 / (levels - 1)
    cumulative = stats.logistic.cdf(edges, loc=0.2, scale=0.2)
    expected = np.diff(np.concatenate([[0], cumulative, [1]])) * n
    observed = drawn[:, 0].bincount(minlength=levels).numpy()
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-3


def test_draws_are_levels_the_mixture_can_give():
    """Every level there is, whatever is drawn: the tails end in the outer levels."""
    head = LogisticMixtureHead(3, 4, 2)
    outputs = torch.zeros(2000, head.outputs)
    drawn = head.draw(outputs, torch.rand(2000, 4), slice(0, 3), 1.0)
    assert drawn.dtype == torch.int64
    assert drawn.unique().tolist() == [0, 1, 2, 3]


def test_a_pixel_is_completed_whole_or_not_at_all():
    model = small((3, 2, 2))
    given, mask = torch.zeros(1, 3, 2, 2, dtype=torch.int64), torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    mask[:, 0] = True
    with pytest.raises(ValueError, match="mask must keep all colours of a pixel or none"):
        model.sample(1, given=given, mask=mask)


# ---- people's mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (2, 4, 4)}, "image_shape must have 1 or 3 channels .* got 2"),
        ({"image_shape": (1, 4)}, r"image_shape .*\(1, 4\)"),
        ({"levels": 1}, "levels must be at least 2, got 1"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"resnets": 0}, "resnets must be at least 1, got 0"),
        ({"resolutions": 0}, "resolutions must be at least 1, got 0"),
        ({"mixtures": 0}, "mixtures must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"num_classes": -1}, "num_classes .* got -1"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelCNNPP(**{"image_shape": (1, 4, 4), "levels": 4, "filters": 4} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (3, 4, 4), "channels": 5}, "channels .* twice the 3 colours .* got 5"),
        ({"image_shape": (1, 4, 4), "layers": -1}, "layers must be at least 0, got -1"),
    ],
)
def test_constructor_of_pixelcnn_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelCNN(levels=4, **arguments)


# ---- published layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("resolutions", [1, 3])
@pytest.mark.parametrize("scope", ["", "model/"])
def test_official_layout_round_trips(num_classes, resolutions, scope):
    model = small(num_classes=num_classes, resolutions=resolutions, resnets=2)
    arrays = {scope + name: array for name, array in to_official(model).items()}
    arrays["model/conv2d_0/V_adam_mg"] = np.zeros(1)  # what a checkpoint also holds is left alone
    state = from_official(arrays, small(num_classes=num_classes, resolutions=resolutions, resnets=2))
    assert sorted(state) == sorted(model.state_dict())
    for key, tensor in model.state_dict().items():
        assert torch.equal(state[key], tensor)
        assert state[key].data_ptr() != tensor.data_ptr()


def test_official_names_and_shapes_are_those_of_the_published_size():
    """53.6 M parameters, numbered in the order of execution, by kind."""
    model = PixelCNNPP((3, 8, 8), 256, num_classes=10, filters=6)
    arrays = to_official(model)
    kinds = dict.fromkeys(("conv2d", "deconv2d", "dense", "conditional_weights"), 0)
    for name in arrays:
        kinds[name.rsplit("_", 1)[0]] += name.endswith(("/V", "/hw"))
    resnets = 2 * (15 + 17)
    assert kinds == {
        "conv2d": 3 + 4 + 2 * resnets,
        "deconv2d": 4,
        "dense": 15 + 2 * 17 + 1,
        "conditional_weights": resnets,
    }
    assert arrays["conv2d_0/V"].shape == (2, 3, 4, 6)
    assert arrays["conv2d_1/V"].shape == (1, 3, 4, 6)
    assert arrays["conv2d_2/V"].shape == (2, 1, 4, 6)
    assert arrays["conv2d_3/V"].shape == (2, 3, 12, 6)
    assert arrays["conv2d_4/V"].shape == (2, 3, 12, 12)
    assert arrays["conv2d_5/V"].shape == (2, 2, 12, 6)
    assert arrays["dense_0/V"].shape == (12, 6)
    assert arrays["dense_49/V"].shape == (6, 100)
    assert arrays["dense_49/g"].shape == arrays["dense_49/b"].shape == (100,)
    assert arrays["deconv2d_0/V"].shape == (2, 3, 6, 6)
    assert arrays["conditional_weights_63/hw"].shape == (10, 12)


def test_official_transposed_weights_mean_the_same():
    """V is (kh, kw, out, in), normalised over all but out; a pixel adds V[u, v] x to 2i + u, 2j + v."""
    model = small()
    arrays = to_official(model)
    v, g = arrays["deconv2d_0/V"], arrays["deconv2d_0/g"]
    weight = v / np.sqrt((v**2).sum((0, 1, 3), keepdims=True)) * g[:, None]
    x = np.random.default_rng(0).normal(size=(2, 2, 4))
    canvas = np.zeros((2 * 2 + 1, 2 * 2 + 2, 4))
    for i, j, u, w in np.ndindex(2, 2, 2, 3):
        canvas[2 * i + u, 2 * j + w] += weight[u, w] @ x[i, j]
    layer = model.decoder[1].entry_u
    expected = canvas[:4, 1:5] + arrays["deconv2d_0/b"]
    got = layer(torch.from_numpy(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-12)


def test_averages_are_taken_if_asked_for():
    model, averaged = small(), small()
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.mul_(0.5)
    arrays = {f"model/{name}": a for name, a in to_official(model).items()}
    for name, a in to_official(averaged).items():
        arrays[f"model/{name}/ExponentialMovingAverage"] = a
    for average, source in ((False, model), (True, averaged)):
        state = from_official(arrays, small(), average=average)
        assert all(torch.equal(state[key], t) for key, t in source.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("image_shape", [(3, 8, 4), (1, 5, 6)])
def test_port_layout_keeps_the_function(prefix, image_shape):
    model, again = small(image_shape, resnets=2), small(image_shape, resnets=2)
    with torch.no_grad():
        for i in (1, 2):  # a gain comes back positive, the direction with its sign
            model.decoder[i].entry_u.weight_g.abs_()
            model.decoder[i].entry_ul.weight_g.abs_()
    tensors = {prefix + name: tensor for name, tensor in to_port(model).items()}
    again.load_state_dict(from_port(tensors, again))
    x = torch.randint(8, (2, *image_shape))
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=1e-11)
    changed = {
        key for key, t in model.state_dict().items() if not torch.allclose(again.state_dict()[key], t)
    }
    entries = {f"decoder.{i}.entry_{stream}" for i in (1, 2) for stream in ("u", "ul")}
    assert changed == {f"{entry}.weight_v" for entry in entries}, "directions of transposed weights only"


def test_port_names_and_norms():
    tensors = to_port(small(resnets=2))
    resnet = ("conv_input.conv", "conv_out.conv")
    layers = ["u_init.conv", "ul_init.0.conv", "ul_init.1.conv", "nin_out.lin_a"]
    for i in range(3):
        for j in range(2):
            layers += [f"up_layers.{i}.u_stream.{j}.{part}" for part in resnet]
            layers += [f"up_layers.{i}.ul_stream.{j}.{part}" for part in (*resnet, "nin_skip.lin_a")]
        for j in range(2 if i == 0 else 3):
            for stream in ("u", "ul"):
                parts = (*resnet, "nin_skip.lin_a")
                layers += [f"down_layers.{i}.{stream}_stream.{j}.{part}" for part in parts]
    for i in range(2):
        layers += [f"downsize_{stream}_stream.{i}.conv" for stream in ("u", "ul")]
        layers += [f"upsize_{stream}_stream.{i}.deconv" for stream in ("u", "ul")]
    wanted = {f"{layer}.{part}" for layer in layers for part in ("weight_v", "weight_g", "bias")}
    assert set(tensors) == wanted
    assert tensors["up_layers.0.ul_stream.0.nin_skip.lin_a.weight_v"].shape == (4, 8)
    assert tensors["nin_out.lin_a.weight_g"].shape == (20, 1)
    v, g = (tensors[f"upsize_u_stream.0.deconv.weight_{p}"] for p in "vg")
    assert g.shape == (4, 1, 1, 1)
    torch.testing.assert_close(v.square().sum((1, 2, 3), keepdim=True).sqrt(), g)


@pytest.mark.parametrize("layout", ["official", "port"])
def test_what_does_not_fit_is_named(layout):
    model = small()
    to, load = {"official": (to_official, from_official), "port": (to_port, from_port)}[layout]
    tensors = dict(to(model))
    name = next(iter(tensors))
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load({key: t for key, t in tensors.items() if key != name}, model)
    with pytest.raises(ValueError, match=f"{name} must have .* got .*1, 2, 3"):
        load(tensors | {name: np.zeros((1, 2, 3))}, model)
    with pytest.raises(ValueError, match="no place for 1 of the layers' tensors"):
        load(tensors | {"dense_99/V": np.zeros((4, 4))}, model)
    with pytest.raises(ValueError, match=r"must have shape|no place for"):
        load(to(small(resnets=2)), small(resnets=1))


def test_the_port_has_neither_classes_nor_other_resolutions():
    with pytest.raises(ValueError, match="model must have no classes"):
        to_port(small(num_classes=2))
    with pytest.raises(ValueError, match="model must have no classes"):
        from_port({}, small(num_classes=2))
    with pytest.raises(ValueError, match="model must have 3 resolutions"):
        to_port(small(resolutions=2))
