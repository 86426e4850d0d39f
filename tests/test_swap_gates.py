"""Which gates genfast.swap finds, in a forward or as a module, and which are none."""

from __future__ import annotations

import pytest
import swap_modules as plain
import torch
from swap_modules import left_reason
from torch import nn

import genfast

# ---- gates ------------------------------------------------------------------------------------------


def test_a_gate_in_another_order_is_left_alone():
    assert left_reason(plain.ReversedGate()).startswith("its tanh and sigmoid are not")


class ManyForms(nn.Module):
    """Each way of writing a gate that is found, and some that look like one and are none."""

    def forward(self, x, mode):
        a, b = x.split(x.shape[1] // 2, 1)
        if mode == "in a branch":
            return a.tanh() * torch.sigmoid(b)
        if mode == "assigned since":
            a = a + 1
            return torch.tanh(a) * torch.sigmoid(b)
        if mode == "another split":
            a, b = x[:, ::2], x[:, 1::2]
            return torch.tanh(a) * torch.sigmoid(b)
        if mode == "loop":
            total = 0
            for i in range(3):
                total = total + torch.tanh(a) * torch.sigmoid(b)
                b = b + i
            return total
        if mode == "lambda":
            late = lambda: torch.tanh(a) * torch.sigmoid(b)  # noqa: E731
            a = 2 * a
            return late()
        if mode == "comprehension":
            return sum(torch.tanh(a) * torch.sigmoid(b) for a, b in [(b, a)])
        if mode == "walrus":
            return [(a := a + 1), torch.tanh(a) * torch.sigmoid(b)][1]
        if mode == "glu":
            return torch.sigmoid(b) * a
        a += 1
        if mode == "in place":
            return torch.tanh(a) * torch.sigmoid(b)
        a, b = torch.chunk(x, chunks=2, dim=1)
        x = x + 1
        return torch.tanh(input=a) * torch.sigmoid(b), a * b.sigmoid(), torch.tanh(a) * b.sigmoid()


@pytest.mark.parametrize(
    "mode",
    [
        "in a branch",
        "assigned since",
        "another split",
        "loop",
        "lambda",
        "comprehension",
        "walrus",
        "glu",
        "in place",
        "last",
    ],
)
def test_a_forward_with_gates_means_what_it_meant(mode):
    module = ManyForms()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        wanted = module(x.clone(), mode)
        assert "gates fused" in str(genfast.swap(module))
        got = module(x.clone(), mode)
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=1e-14)


def test_only_the_halves_of_a_split_are_fused(monkeypatch):
    from genfast.swapping import inline_gate

    calls = []
    real = inline_gate.gated_activation
    monkeypatch.setattr(inline_gate, "gated_activation", lambda y: calls.append(1) or real(y))
    module = ManyForms()
    genfast.swap(module)
    fused = {}
    for mode in ("in a branch", "assigned since", "another split", "loop", "lambda", "walrus"):
        calls.clear()
        module(torch.randn(2, 6, 3, 3), mode)
        fused[mode] = len(calls)
    assert fused == {
        "in a branch": 1, "assigned since": 0, "another split": 0, "loop": 0, "lambda": 0, "walrus": 0,
    }  # fmt: skip


def test_unequal_parts_are_no_halves():
    class Unequal(nn.Module):
        def forward(self, x):
            a, b = torch.split(x, [1, 3], 1)
            return torch.tanh(a) * torch.sigmoid(b)

    module, x = Unequal(), torch.randn(2, 4, 2, 2)
    wanted = module(x)
    assert len(genfast.swap(module).replaced) == 1
    assert torch.equal(module(x), wanted)


def test_a_function_called_tanh_that_is_none_is_not_fused():
    assert not genfast.swap(Impostor()).replaced


class Impostor(nn.Module):
    def forward(self, x):
        torch = plain  # another module with the names of torch
        a, b = x.chunk(2, 1)
        return torch.both_signs(a) * torch.sigmoid(b)


def test_private_names_super_and_decorators_are_left_alone():
    class Private(nn.Module):
        def __gate(self, a, b):
            return torch.tanh(a) * torch.sigmoid(b)

        def forward(self, x):
            a, b = x.chunk(2, 1)
            return self.__gate(a, b) + torch.tanh(a) * torch.sigmoid(b)

    class Super(plain.WithHelper):
        def forward(self, x):
            a, b = x.repeat(1, 2, 1, 1).chunk(2, 1)
            return super().forward(torch.tanh(a) * torch.sigmoid(b))

    class Decorated(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            a, b = x.chunk(2, 1)
            return x * 0 + 1 + torch.cat([torch.tanh(a) * torch.sigmoid(b)] * 2, 1)

    assert "private" in left_reason(Private())
    assert "super()" in left_reason(Super(2))
    assert left_reason(Decorated()) == "no pattern fits"
