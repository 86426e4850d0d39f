"""What the tests of ops share: running one with its gradients, and judging the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Under torch.use_deterministic_algorithms, where no memory is left as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def forward_backward(
    function: Callable[..., Tensor],
    tensors: Sequence[Tensor | None],
    keywords: Mapping[str, Any],
    wanted: Sequence[int],
    cotangent: Tensor | None = None,
) -> list[Tensor]:
    """The output, then the gradient of each wanted argument.

    The cotangent is random (and the same for every dtype) unless given. With nothing wanted only the
    output is returned.
    """
    inputs = [None if t is None else t.detach() for t in tensors]
    for i in wanted:
        inputs[i].requires_grad_()
    y = function(*inputs, **keywords)
    if not wanted:
        return [y]
    if cotangent is None:
        cotangent = normal_like(y)
    gradients = torch.autograd.grad(y, [inputs[i] for i in wanted], cotangent)
    return [y.detach(), *gradients]


def normal_like(y: Tensor, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device, y.dtype)


def in_fp64(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.detach().double().contiguous() for t in tensors]


def largest(t: Tensor) -> float:
    return t.abs().max().item() if t.numel() else 0.0


def assert_close(got: Tensor, exact: Tensor) -> None:
    """Right but for rounding: for tests of where numbers go, not of how exactly they are computed.

    A sum rounds in proportion to its largest term, not to itself; 1 + max stands for that term.
    """
    assert got.shape == exact.shape
    error = largest(got.double() - exact)
    assert error <= 8 * torch.finfo(got.dtype).eps * (1 + largest(exact))


def assert_as_exact_as_torch(got: Tensor, torch_at_dtype: Tensor, exact: Tensor, what: str) -> None:
    """The largest error is at most twice that of the plain PyTorch reference at the same dtype.

    Where the reference happens to be exact, one unit of rounding of the largest value is allowed.
    """
    assert got.shape == exact.shape, what
    assert got.dtype == torch_at_dtype.dtype, what
    error, allowed = largest(got.double() - exact), 2 * largest(torch_at_dtype.double() - exact)
    if allowed == 0:
        allowed = torch.finfo(got.dtype).eps * largest(exact)
    assert error <= allowed, f"{what}: error {error:.3g}, allowed {allowed:.3g}"


def fp64_errors_allowed(
    plain: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    tensors: Sequence[Tensor | None],
    keywords: Mapping[str, Any],
    wanted: Sequence[int],
) -> list[float]:
    """How far from the reference each result in fp64 may be.

    Nothing here is more exact than fp64, but to first order a computation's error is proportional to
    eps, so PyTorch's in fp64 is that in fp32 times the ratio of the two. Twice that for us and once for
    the reference itself, which stands in for the exact value.
    """
    single = [None if t is None else t.detach().float() for t in tensors]
    rounded = forward_backward(plain, single, keywords, wanted)
    cotangent = normal_like(rounded[0])
    exact = forward_backward(reference, in_fp64(single), keywords, wanted, cotangent.double())
    ratio = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    return [3 * ratio * largest(got.double() - true) for got, true in zip(rounded, exact, strict=True)]
