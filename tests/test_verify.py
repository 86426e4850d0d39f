"""genfast.verify: what it prints, what it measures, what it leaves as it was."""

from __future__ import annotations

import re

import pytest
import swap_modules as plain
import swap_ports as ports
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

import genfast
from genfast.swapping import measuring
from genfast.swapping.twin import Twin


def model_and_input(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(
        plain.InPlaceMasked(plain.raster(7, 7, False), 1, 16),
        plain.SliceGate(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 2, 1),
    )
    return model.to(dtype), torch.randn(2, 1, 9, 9, dtype=dtype)


def test_prints_the_figures_that_it_returns(capsys):
    model, x = model_and_input()
    result = genfast.verify(model, x, seconds=0.05)
    printed = capsys.readouterr().out
    assert printed == f"{result}\n"
    assert printed.startswith("2 modules replaced; float32, cpu, 1 threads; errors against float64\n")
    forward = re.search(r"^forward, ms +(\S+) +(\S+) +(\S+)x$", printed, re.M).groups()
    assert forward == (
        f"{result.plain.forward_ms:.2f}",
        f"{result.fast.forward_ms:.2f}",
        f"{result.forward_speedup:.2f}",
    )
    assert re.search(rf"^forward \+ backward, ms .* {result.training_speedup:.2f}x$", printed, re.M)
    assert re.search(
        rf"^output: largest error +{result.plain.error:.1e} +{result.fast.error:.1e}$", printed, re.M
    )
    assert result.forward_speedup == result.plain.forward_ms / result.fast.forward_ms


def test_errors_are_those_of_rounding():
    model, x = model_and_input()
    result = genfast.verify(model, x, seconds=0.05)
    for side in (result.plain, result.fast):
        assert 0 < side.error < 1e-6
        assert 0 < side.gradient_error < 1e-4
        assert 0 < side.relative_error < 1e-6
        assert 0 < side.relative_gradient_error < 1e-5
    exact, x = model_and_input(torch.float64)
    result = genfast.verify(exact, x, seconds=0.05)
    assert result.plain.error == 0
    assert result.fast.error < 1e-14
    assert result.gradient_difference < 1e-12


class Scaled(nn.Module):
    """A model that is wrong by a factor, as a bad replacement would be."""

    def __init__(self, factor):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.factor = factor

    def forward(self, x):
        return self.factor * self.weight * x


def test_a_wrong_model_shows():
    result = genfast.verify(Scaled(1.5), torch.full((3,), 2.0), original=Scaled(1.0), seconds=0.02)
    assert result.difference == 1.0
    assert result.fast.error == 1.0
    assert result.fast.relative_error == 0.5
    assert result.plain.error == 0
    assert result.fast.relative_gradient_error == pytest.approx(0.5)
    assert result.gradient_difference > 0


def test_the_slower_model_has_the_longer_time():
    class Slow(Scaled):
        def forward(self, x):
            for _ in range(50):
                x = x + 0.0
            return super().forward(x)

    result = genfast.verify(Scaled(1.0), torch.randn(2000), original=Slow(1.0), seconds=0.2)
    assert result.forward_speedup > 2
    assert result.training_speedup > 2


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_is(swapped, training):
    model, x = model_and_input()
    model.train(training)
    if swapped:
        genfast.swap(model)
    model(x).sum().backward()
    x.requires_grad_()
    classes = [type(m) for m in model.modules()]
    values = parameters_to_vector(model.parameters()).clone()
    gradients = [p.grad.clone() for p in model.parameters()]
    versions = [p._version for p in model.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():
        result = genfast.verify(model, x, seconds=0.05)
    assert result.replaced == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(m) for m in model.modules()] == classes
    assert torch.equal(parameters_to_vector(model.parameters()), values)
    assert [p._version for p in model.parameters()] == versions
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert x.grad is None
    assert model.training is training


def test_a_swapped_model_is_compared_with_what_it_was(monkeypatch):
    model, x = model_and_input()
    genfast.swap(model)
    seen = []
    forward = plain.SliceGate.forward
    monkeypatch.setattr(plain.SliceGate, "forward", lambda self, x: seen.append(1) or forward(self, x))
    genfast.verify(model, x, seconds=0.02)
    assert seen
    assert isinstance(model[1], Twin)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_several_inputs_and_outputs_and_weight_norm():
    torch.manual_seed(0)
    labels = torch.tensor([1, 2])
    port = ports.PortNet(4)
    assert genfast.verify(port, (torch.randn(2, 3, 5, 5), labels), seconds=0.02).difference < 1e-6
    stacks = plain.TwoStacks(3)
    assert genfast.verify(stacks, (torch.randn(2, 3, 5, 5),) * 2, seconds=0.02).difference < 1e-6
    both = ports.PortPP()
    both(torch.randn(1, 3, 4, 4)).sum().backward()
    assert genfast.verify(both, torch.randn(1, 3, 4, 4), seconds=0.02).difference < 1e-5


def test_a_model_that_takes_no_gradient():
    model, x = model_and_input()
    result = genfast.verify(model.requires_grad_(False), x, seconds=0.02)
    assert result.plain.gradient_error is not None  # that of the input

    class Levels(nn.Module):
        def forward(self, x):
            return x.float().sqrt()

    result = genfast.verify(Levels(), torch.arange(4), seconds=0.02)
    assert result.training_speedup is None
    assert result.gradient_difference is None
    assert "backward" not in str(result)


def test_a_model_that_cannot_run_in_fp64():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return x @ self.weight @ torch.ones(3, 3)

    result = genfast.verify(Single(), torch.ones(1, 3), seconds=0.02)
    assert result.reference == "the plain model"
    assert "errors against the plain model" in str(result)


def test_bad_arguments_raise():
    model, x = model_and_input()
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        genfast.verify(model, x, seconds=0)
    with pytest.raises(TypeError, match=r"original must be a torch\.nn\.Module, got str"):
        genfast.verify(model, x, original="model")
    with pytest.raises(ValueError, match="different numbers or shapes of outputs"):
        genfast.verify(model, x, original=nn.Identity())

    class Nothing(nn.Module):
        def forward(self, x):
            return None

    with pytest.raises(ValueError, match="at least one floating-point tensor"):
        genfast.verify(Nothing(), x)


def test_peak_memory_is_that_of_the_tensors_alive():
    megabyte = torch.zeros(1 << 18)

    def step():
        a = megabyte + 1
        b = a + 1
        del a
        c = b.view(2, -1)  # no new memory
        c.add_(1)
        return b + 1

    assert measuring.peak_bytes(step, [torch.device("cpu")]) == 2 << 20


def test_saved_activations_count():
    def peak(layers):
        model = nn.Sequential(*(nn.Sigmoid() for _ in range(layers)))
        x = torch.zeros(1 << 18, requires_grad=True)
        return measuring.peak_bytes(lambda: model(x).sum().backward(), [torch.device("cpu")])

    assert peak(8) - peak(4) == 4 << 20


def test_sides_run_in_turn():
    order = []
    times = measuring.median_times([lambda: order.append("a"), lambda: order.append("b")], 0.0, [])
    assert "".join(order) == "ab" * 4  # one to warm up
    assert len(times) == 2
