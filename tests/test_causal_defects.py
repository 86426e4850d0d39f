"""Defects that public PixelCNN code has shipped with, each as a test of every model it could be in."""

from __future__ import annotations

import pytest
import torch
from enumeration import dependencies, earlier, randomise, reached
from tiny_models import NAMES, SIZES, class_of, tiny

import genfast
from genfast.models import GatedPixelCNN, PixelCNN, PixelCNNPP
from genfast.nn import MaskedConv2d, WeightNorm, WeightNormConvTranspose2d
from genfast.reference import causal_mask

each = pytest.mark.parametrize("name", NAMES)


# ---- masks by `weight.data *= mask` in forward ---------------------------------------------------


@each
def test_forward_and_backward_leave_every_parameter_as_it_is(name):
    model = tiny(name, (3, 4, 4), 4)
    versions = {key: p._version for key, p in model.named_parameters()}
    values = {key: p.detach().clone() for key, p in model.named_parameters()}
    x = torch.randint(4, (2, 3, 4, 4))
    model.loss(x).backward()
    model.sample(1)
    assert {key: p._version for key, p in model.named_parameters()} == versions
    assert all(torch.equal(p, values[key]) for key, p in model.named_parameters())


@each
def test_functional_call_uses_the_weights_it_is_given(name):
    model, other = tiny(name, (3, 4, 4), 4), tiny(name, (3, 4, 4), 4, seed=1)
    x = torch.randint(4, (2, 3, 4, 4))
    before = model(x)
    foreign = {key: p.detach() for key, p in other.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(model, foreign, (x,)), other(x))
    assert torch.equal(model(x), before)
    assert not torch.equal(before, other(x))


@each
def test_compiles_whole(name):
    torch.manual_seed(0)
    model = class_of(name)((3, 4, 5), 4, **SIZES[name], num_classes=2)
    x, labels = torch.randint(4, (2, 3, 4, 5)), torch.tensor([0, 1])
    model.loss(x, labels).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model.loss, fullgraph=True, backend="eager")(x, labels).backward()
    for parameter, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


# ---- wrong masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5, 7])
def test_kept_taps_are_half_of_the_kernel_without_or_with_its_centre(size):
    for mask_type, kept in (("A", (size**2 - 1) // 2), ("B", (size**2 + 1) // 2)):
        assert causal_mask((1, 1, size, size), mask_type).sum() == kept
        conv = MaskedConv2d(1, 1, size, mask_type=mask_type)
        y = conv(torch.rand(1, 1, 2 * size, 2 * size) + 1)
        y[0, 0, size, size].backward()
        assert torch.count_nonzero(conv.weight.grad) == kept


def test_only_live_rows_are_multiplied():
    from torch.utils.flop_counter import FlopCounterMode

    conv, x = MaskedConv2d(4, 8, 7, mask_type="B"), torch.rand(1, 4, 10, 10)
    with FlopCounterMode(display=False) as counter:
        conv(x)
    assert counter.get_total_flops() == 2 * 10 * 10 * 4 * 8 * (4 * 7)


@each
def test_information_flows_along_row_0(name):
    """Mask B must keep the columns to the left on the pixel's own row."""
    models = [tiny(name, (1, 1, 4), 4, seed=seed) for seed in range(5)]
    assert reached(models)[earlier(models[0])].all()


@each
@pytest.mark.parametrize("channels", [6, 7, 8])
def test_colours_are_right_for_any_number_of_channels(name, channels):
    """Groups by channel number modulo 3 misalign the halves of a gate unless 3 divides the channels."""
    width = next(key for key in ("channels", "filters", "hidden") if key in SIZES[name])
    models = [tiny(name, (3, 3, 3), 4, seed=seed, **{width: channels}) for seed in range(12)]
    seen = reached(models)
    assert not seen[~earlier(models[0])].any()
    by_pixel = seen.view(9, -1, 9, 3)  # of the pixel before, every colour reaches every colour
    assert by_pixel[torch.arange(1, 9), :, torch.arange(8)].all()
    if name != "pixelcnn-pp":
        by_colour = by_pixel[torch.arange(9), :, torch.arange(9)].any(0)
        assert torch.equal(by_colour, torch.ones(3, 3).tril(-1).bool())


def test_pixelcnn_receptive_field_and_blind_spot_are_where_theory_puts_them():
    """Row r - k is seen from column c - 3 - L to c + min(k + 2, L + 3), where L blocks follow."""
    size, layers = 15, 2
    model = PixelCNN((1, size, size), 4, 8, layers).double()
    randomise(model)
    # ReLUs hide paths: what they cut off for one image shows for another.
    seen = torch.zeros(size, size, dtype=torch.bool)
    row = column = size // 2
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 1, size, size, dtype=torch.float64, generator=generator).requires_grad_()
        model.network(x)[0, :, row, column].sum().backward()
        seen |= x.grad[0, 0] != 0
    expected = torch.zeros_like(seen)
    expected[row, column - 3 - layers : column] = True
    for k in range(1, layers + 4):
        right = column + min(k + 2, layers + 3)
        expected[row - k, column - 3 - layers : right + 1] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(("border", "above"), [("zero", 1), ("bias", 0)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gated_receptive_field_of_each_layer_is_the_closed_form(border, above, layers):
    """No blind spot: L + 2 columns to either side on every row above, L + 2 rows up.

    With border "zero" the link adds a row to the top.
    """
    size, reach = 15, layers + 2
    model = GatedPixelCNN((1, size, size), 4, 8, layers, border=border).double()
    randomise(model)
    row = column = size // 2
    x = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    model.network(x)[0, :, row, column].sum().backward()
    expected = torch.zeros(size, size, dtype=torch.bool)
    expected[row, column - reach : column] = True
    expected[row - reach - above : row, column - reach : column + reach + 1] = True
    assert torch.equal(x.grad[0, 0] != 0, expected)


@pytest.mark.parametrize("resolutions", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (5, 6), (7, 3), (1, 5), (5, 1), (1, 1)])
def test_resolutions_keep_the_order(resolutions, size):
    """Down- and upsampling, of even and odd sizes, show no pixel what is not before it."""
    model = tiny("pixelcnn-pp", (1, *size), 4, resolutions=resolutions)
    jacobian = dependencies(model)
    assert torch.count_nonzero(jacobian[~earlier(model)]) == 0
    left = torch.diagonal(jacobian, -1)[torch.arange(1, size[0] * size[1]) % size[1] != 0]
    assert (left != 0).all(), "the pixel to the left is always seen"


def furthest_up_and_left(size: int, **changes) -> tuple[int, int]:
    """Rows up and columns to the left that the last pixel of a large image sees."""
    model = tiny("pixelcnn-pp", (1, size, size), 4, **changes)
    x = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    model.network(x)[..., -1, -1].sum().backward()
    rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
    return size - 1 - rows.min().item(), size - 1 - columns.min().item()


@pytest.mark.parametrize("resnets", [1, 2])
def test_pixelcnn_pp_receptive_field_is_the_closed_form(resnets):
    """2 rows by the first convolution, 2 by each of 2q gated resnets, 1 where u joins ul last."""
    assert furthest_up_and_left(16, resolutions=1, resnets=resnets) == (4 * resnets + 3, 4 * resnets + 2)


def test_coarser_resolutions_see_further():
    fields = [furthest_up_and_left(56, resolutions=resolutions) for resolutions in (1, 2, 3)]
    assert fields == [(7, 6), (20, 19), (46, 45)]  # 20 = 2 * 7 + 6, 46 = 2 * 20 + 6


# ---- conditioning --------------------------------------------------------------------------------


def test_classes_reach_both_stacks_and_get_the_gradient_of_the_twin():
    model = tiny("gated-pixelcnn", (1, 4, 4), 4, num_classes=3)
    twin = genfast.reference.GatedPixelCNN(**model.config).double()
    twin.load_state_dict(model.state_dict())
    x, labels = torch.randint(4, (2, 1, 4, 4)), torch.tensor([0, 2])
    for m in (model, twin):
        m(x, labels).square().sum().backward()
    for block, plain in zip(model.blocks, twin.blocks, strict=True):
        for stack in ("vertical_class", "horizontal_class"):
            embedding, expected = getattr(block, stack), getattr(plain, stack)
            if embedding is None:
                assert block.last
                assert stack == "vertical_class"
                continue
            assert (embedding.weight.grad[[0, 2]] != 0).all()
            torch.testing.assert_close(embedding.weight.grad, expected.weight.grad)


@each
def test_classes_reach_every_block(name):
    model = tiny(name, (1, 4, 4), 4, num_classes=3)
    model.loss(torch.randint(4, (2, 1, 4, 4)), torch.tensor([0, 2])).backward()
    used = [
        (module.weight.grad.abs().sum(1) > 0).tolist()
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
    ]
    blocks = {"pixelcnn": 2, "gated-pixelcnn": 2 * 3 - 1, "pixelcnn-pp": 2 * (2 + 1 + 2)}
    # Through PixelRNN's layers a residual connection carries what is added to the first convolution.
    assert used == [[True, False, True]] * blocks.get(name, 1)


# ---- what ports of PixelCNN++ leave out or do otherwise ------------------------------------------


def pp(**changes) -> PixelCNNPP:
    return tiny("pixelcnn-pp", (3, 6, 6), 8, **changes)


def initial(image_shape=(3, 6, 6), **changes) -> PixelCNNPP:
    torch.manual_seed(0)
    return PixelCNNPP(image_shape, 8, **SIZES["pixelcnn-pp"] | changes).double()


def weight_norm_outputs(model: PixelCNNPP, x: torch.Tensor) -> list[tuple[WeightNorm, torch.Tensor]]:
    outputs = []
    layers = [layer for layer in model.modules() if isinstance(layer, WeightNorm)]
    hooks = [
        layer.register_forward_hook(lambda layer, _, y: outputs.append((layer, y.detach())))
        for layer in layers
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    assert len(outputs) == len(layers)
    return outputs


def test_dropout_drops_elements_not_channels():
    model = initial(dropout=0.5)
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda _, x, y: seen.append((x[0] != 0, y == 0)))
    x = torch.randint(8, (2, 3, 6, 6))
    model.train()
    model(x)
    assert len(seen) == 10, "one a gated resnet"
    for there, zero in seen:
        dropped, kept = (there & zero).flatten(2), (there & ~zero).flatten(2)
        assert dropped.sum() / there.sum() == pytest.approx(0.5, abs=0.15)
        large = there.flatten(2).sum(2) >= 8
        assert (dropped.any(2) & kept.any(2))[large].all()
    seen.clear()
    model.eval()
    model(x)
    assert not any((there & zero).any() for there, zero in seen)


def test_transposed_weights_are_normalised_per_output_channel():
    layers = [layer for layer in pp().modules() if isinstance(layer, WeightNormConvTranspose2d)]
    assert len(layers) == 2
    for layer in layers:
        norms = layer.weight.square().sum((0, 2, 3)).sqrt()
        torch.testing.assert_close(norms, layer.weight_g.flatten().abs())


def test_initialisation_from_data_standardises_every_convolution():
    """N(0, 1) per channel over the batch, and N(0, 0.1^2) of the last one in a gated resnet."""
    model = initial()
    x = torch.randint(8, (16, 3, 6, 6))
    model.initialise_from_data(x)
    narrow = 0
    for layer, y in weight_norm_outputs(model, x):
        var, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-8
        torch.testing.assert_close(var.sqrt(), torch.full_like(var, layer.init_scale), rtol=1e-3, atol=0)
        narrow += layer.init_scale == 0.1
    assert narrow == 10, "one a gated resnet"
    again = {key: p.detach().clone() for key, p in model.named_parameters()}
    model.initialise_from_data(x)
    for key, p in model.named_parameters():
        torch.testing.assert_close(p, again[key], rtol=1e-3, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("image_shape", [(1, 4, 4), (3, 1, 1)])
def test_initialisation_from_constant_channels_is_finite(image_shape):
    model = initial(image_shape)
    x = torch.zeros(4, *image_shape, dtype=torch.int64)
    model.initialise_from_data(x)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.loss(x).isfinite()


@each
def test_every_value_fed_back_lies_on_the_grid(name):
    """The published samplers feed back what was drawn before it is rounded."""
    levels = 5
    model, seen = tiny(name, (3, 3, 3), levels), []
    network = model.network
    model.network = lambda x, *given: seen.append(x) or network(x, *given)
    model.sample(4, seed=1, method="naive")
    steps = torch.cat([x.flatten() for x in seen]).add(1).mul((levels - 1) / 2)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-12)
    assert steps.round().unique().tolist() == list(range(levels))


def test_published_size():
    with torch.device("meta"):
        model = PixelCNNPP((3, 32, 32), 256)
    sizes = {"weight_v": 0, "weight_g": 0, "bias": 0}
    for key, parameter in model.named_parameters():
        sizes[key.rsplit(".")[-1]] += parameter.numel()
    assert sizes["weight_v"] == 53_578_240
    assert sizes["weight_v"] + sizes["bias"] == 53_618_660
    assert sum(sizes.values()) == 53_659_080
