"""`genfast.swap` on modules that are shared, derived, altered or odd."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest
import swap_modules as plain
import swap_ports as ports
import torch
from swap_models import made
from swap_modules import left_reason, raster
from torch import nn

import genfast
from genfast.swapping import inline_gate, twin
from genfast.swapping.twin import Twin

# The ports' weight norm is the one that torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def test_a_module_used_twice_stays_one():
    conv = plain.InPlaceMasked(raster(3, 3, True), 4, 4).double()
    model = nn.Sequential(conv, nn.ModuleList([conv])[0], nn.Sequential(nn.ReLU(), conv))
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    wanted = model(x)
    assert len(genfast.swap(model).replaced) == 1
    assert model[0] is model[1] is model[2][1] is conv
    torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)


def test_a_convolution_that_two_modules_own_is_left_alone():
    first, second = ports.PaddedConv(2, 2), ports.PaddedConv(2, 2)
    second.conv = first.conv
    report = genfast.swap(nn.ModuleList([first, second]))
    assert not report.replaced
    assert "also part of another module" in report.left[0].reason


def test_what_no_pattern_fits_is_named():
    class Own(nn.Module):
        def forward(self, x):
            return 2 * x

    model = nn.Sequential(nn.Conv2d(1, 1, 1), Own(), nn.Tanh())
    report = genfast.swap(model)
    assert [(left.name, left.module, left.reason) for left in report.left] == [
        ("1", "Own", "no pattern fits")
    ]
    assert "left alone: 1: Own: no pattern fits" in str(report)


def test_a_forward_set_on_the_object_is_left_alone():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    conv.forward = lambda x: x
    assert "set on the object" in left_reason(conv)


def test_what_cannot_be_copied_is_left_alone():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2)
    conv.stream = (i for i in range(3))
    assert "cannot be copied" in left_reason(conv)


def test_frozen_parameters_stay_frozen():
    conv = plain.InPlaceMasked(raster(3, 3, True), 2, 2).requires_grad_(False)
    genfast.swap(conv)
    assert isinstance(conv, Twin)
    assert not any(p.requires_grad for p in conv.parameters())


def test_neither_random_numbers_nor_gradients_change():
    model, inputs, _ = made("two stacks", torch.float32)
    model(*inputs).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    genfast.swap(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_convolutions_derived_from_torch_s():
    torch.manual_seed(0)
    model = nn.Sequential(
        ports.ShiftedSubclass(2, 4, (2, 3), stride=2),
        ports.ShiftedSubclass(4, 4, (2, 2), right=True),
        ports.ShiftedTransposedSubclass(4, 2, (2, 3), stride=2),
    ).double()
    x = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    wanted = model(x)
    report = genfast.swap(model)
    assert [entry.twin for entry in report.replaced] == [
        "shifted_conv2d, down",
        "shifted_conv2d, down_right",
        "shifted_conv_transpose2d, down",
    ]
    torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)


def test_the_two_views_of_a_cropped_pair_stay_views_of_one_tensor():
    pair = ports.CroppedPair(2, 2, (2, 3), padding=(2, 1))
    genfast.swap(pair)
    own, above = pair(torch.randn(1, 2, 4, 4))
    own.data.fill_(7)
    assert (above[:, :, 1:] == 7).all()


@pytest.mark.parametrize("context", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")])
def test_the_proof_is_the_same_in_any_context(context):
    model, inputs, count = made("masked", torch.float32)
    with context:
        report = genfast.swap(model)
    assert len(report.replaced) == count, report
    model(*inputs).sum().backward()


def test_a_pickle_without_the_source_says_so(monkeypatch):
    model = plain.WithHelper(2)
    genfast.swap(model)
    pickled = pickle.dumps(model)

    def no_source(_):
        raise OSError

    monkeypatch.setattr(inspect, "findsource", no_source)
    inline_gate._fused.cache_clear()
    monkeypatch.setattr(twin, "_classes", {})
    with pytest.raises(RuntimeError, match=r"WithHelper was pickled with fused gates.*genfast\.unswap"):
        pickle.loads(pickled)


def test_import_is_lazy():
    code = "import sys, genfast; assert not any('swapping' in m for m in sys.modules); genfast.swap"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"swap", "unswap", "verify"} <= set(dir(genfast))


@pytest.mark.parametrize("function", [genfast.swap, genfast.unswap, lambda m: genfast.verify(m, 1)])
def test_something_else_than_a_module_raises(function):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        function(3)
