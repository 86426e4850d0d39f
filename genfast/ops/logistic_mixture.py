"""The discretised mixture of logistics: log-likelihood of a pixel and draws, each in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from genfast.ops import _native
from genfast.ops import logistic_mixture_native as native
from genfast.reference import logistic_mixture as plain

Mode = Literal["exact", "reference"]
MAX_LEVELS = 65536


def logistic_mixture_log_prob(
    params: Tensor, x: Tensor, *, levels: int = 256, mode: Mode = "exact"
) -> Tensor:
    """Log-likelihood in nats of every pixel under a discretised mixture of logistics.

    A component's probability of a level is the mass that a logistic distribution has between the
    boundaries half a level away; the first and the last level take all that is beyond. The means of
    green and blue are moved by the colours before: mean_g + tanh(c_0) r, mean_b + tanh(c_1) r +
    tanh(c_2) g. Log-scales below -7 count as -7.

    Source: Salimans et al., "PixelCNN++" (2017), eq. 1-3. Where eq. 3 has the coefficient of green, the
    published code and this function multiply it with green's own value.

    Args:
        params: (N, 10K, H, W) for colour: K logits, then for each colour K means, K log-scales and K
            coefficients (c_0, c_1 and c_2 lie with red, green and blue). (N, 3K, H, W) for grey: logits,
            means, log-scales. Any strides; fp32, fp64, bf16 or fp16.
        x: (N, 3, H, W) or (N, 1, H, W), levels 2i / (levels - 1) - 1 in [-1, 1], of the dtype of
            `params` (under torch.autocast of any). "exact" takes the nearest level, so that values
            rounded to 16 bits still are what they stand for. It gets no gradient: a level is no
            continuous quantity.
        levels: how many values a colour can take, 2 to 65536.
        mode: "exact", whose probabilities sum to 1 over the levels, or "reference", which has the
            approximations of the published code: x as it is, edges at |x| > 0.999, and below a
            probability of 1e-5 the density at x times the width of the bin. Published checkpoints give
            their published figures with it.

    Returns:
        (N, H, W), computed in fp32 (fp64 for fp64) and of the dtype of `params`; under torch.autocast
        fp32 where `params` has 16 bits.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: wrong shapes, levels or mode; devices differ; `x` requires a gradient.

    Double backward is right, and runs in plain PyTorch.

    >>> import torch, genfast
    >>> params = torch.randn(1, 30, 1, 1)
    >>> levels = torch.linspace(-1, 1, 256).view(-1, 1, 1, 1)
    >>> log_p = genfast.ops.logistic_mixture_log_prob(params.expand(256, -1, -1, -1), levels)
    >>> round(log_p.exp().sum().item(), 4)
    1.0
    """
    _native.check_tensor("params", params, ndim=4)
    _native.check_tensor("x", x, ndim=4)
    _check_levels(levels)
    if mode not in ("exact", "reference"):
        raise ValueError(f'mode must be "exact" or "reference", got {mode!r}')
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x must have 1 or 3 channels, got shape {tuple(x.shape)}")
    _check_params(params, x, "x", colors=x.shape[1])
    if x.requires_grad and torch.is_grad_enabled():
        raise ValueError("x requires a gradient, but levels have none; pass x.detach()")
    log_prob = _log_prob(params, _for_kernel(x, params), levels, mode == "exact")
    return _result(log_prob, params)


def logistic_mixture_sample(
    params: Tensor, uniforms: Tensor, *, levels: int = 256, quantize: bool = True
) -> Tensor:
    """Draws pixels from a discretised mixture of logistics; logistic_mixture_log_prob describes it.

    The first uniform picks the component by the inverse of the cumulative distribution, the others draw
    the colours in order, each logistic(mean, scale) clamped to [-1, 1], with the means moved by the
    values drawn before. Draws do not depend on how pixels are batched. They carry no gradient.

    Args:
        params: (N, 10K, H, W) or (N, 3K, H, W), any strides; fp32, fp64, bf16 or fp16.
        uniforms: (N, 4, H, W) or (N, 2, H, W) in (0, 1), of the dtype of `params` (under torch.autocast
            of any; fp32 has finer tails than 16 bits).
        levels: how many values a colour can take, 2 to 65536.
        quantize: round every colour to its level 2i / (levels - 1) - 1 before it moves the next; the
            draws then have exactly the probabilities of mode "exact". False leaves them continuous, as
            the published sampler does.

    Returns:
        x, (N, 3, H, W) or (N, 1, H, W) in [-1, 1], in the memory format of `params`; of its dtype, and
        under torch.autocast fp32 where that has 16 bits.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: wrong shapes or levels; devices differ.

    >>> import torch, genfast
    >>> params, uniforms = torch.randn(2, 100, 4, 4), torch.rand(2, 4, 4, 4)
    >>> genfast.ops.logistic_mixture_sample(params, uniforms).shape
    torch.Size([2, 3, 4, 4])
    """
    _native.check_tensor("params", params, ndim=4)
    _native.check_tensor("uniforms", uniforms, ndim=4)
    _check_levels(levels)
    if not isinstance(quantize, bool):
        raise TypeError(f"quantize must be True or False, got {quantize!r}")
    if uniforms.shape[1] not in (2, 4):
        raise ValueError(
            f"uniforms must have 2 (grey) or 4 (colour) channels, got shape {tuple(uniforms.shape)}"
        )
    _check_params(params, uniforms, "uniforms", colors=uniforms.shape[1] - 1)
    x = native.sample_op(params.detach(), _for_kernel(uniforms, params).detach(), levels, quantize)
    return _result(x, params)


# ---- arguments -----------------------------------------------------------------------------------


def _check_levels(levels: int) -> None:
    _native.check_int("levels", levels)
    if not 2 <= levels <= MAX_LEVELS:
        raise ValueError(f"levels must be between 2 and {MAX_LEVELS}, got {levels}")


def _check_params(params: Tensor, other: Tensor, name: str, colors: int) -> None:
    """Raises unless `other` goes with params: channels, batch, image size, dtype, device."""
    kinds = native.channels_of_component(colors)
    if params.shape[1] == 0 or params.shape[1] % kinds:
        raise ValueError(
            f"params must have {kinds}K channels for the {colors} colours that {name} has, "
            f"got shape {tuple(params.shape)}"
        )
    if params.shape[0] != other.shape[0] or params.shape[2:] != other.shape[2:]:
        raise ValueError(
            f"{name} of shape {tuple(other.shape)} does not have the batch and image size of params, "
            f"{tuple(params.shape)}"
        )
    if not _native.autocast_active(params):
        _native.check_like(name, other, "params", params)
    elif other.device != params.device:
        raise ValueError(f"{name} is on {other.device} but params is on {params.device}")


def _for_kernel(x: Tensor, params: Tensor) -> Tensor:
    return x.to(native.arithmetic(params))


def _result(y: Tensor, params: Tensor) -> Tensor:
    return y if _native.autocast_active(params) else y.to(params.dtype)


# ---- derivatives ---------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool],
    grad: Tensor,
    evidence: Tensor,
    params: Tensor,
    x: Tensor,
    levels: int,
    exact: bool,
) -> tuple[Tensor | None, ...]:
    if needs[1]:  # seen only now inside the transforms of torch.func
        raise ValueError("x requires a gradient, but levels have none; pass x.detach()")
    return _gradient(grad, evidence, params, x, levels, exact), None, None, None


def _double_backward(
    needs: Sequence[bool],
    v: Tensor,
    grad: Tensor,
    evidence: Tensor,
    params: Tensor,
    x: Tensor,
    levels: int,
    exact: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of <v, grad_params> in plain PyTorch, differentiable to any order.

    The evidence is taken for what it is, a function of params, and gets no gradient of its own.
    """

    def log_prob_of(params: Tensor) -> Tensor:
        mode = "exact" if exact else "reference"
        return plain.logistic_mixture_log_prob(params, x, levels=levels, mode=mode)

    def grad_params(grad: Tensor, params: Tensor) -> Tensor:
        pull_back = torch.func.vjp(log_prob_of, params)[1]
        return pull_back(grad)[0]  # type: ignore[no-any-return]

    arithmetic = params.to(grad.dtype)
    pull_back = torch.func.vjp(grad_params, grad, arithmetic)[1]
    grad_of_grad, grad_of_params = pull_back(v.to(grad.dtype))
    return grad_of_grad, None, grad_of_params.to(params.dtype), None, None, None


_log_prob = _native.differentiable(native.log_prob_op, _backward, "LogisticMixture", keeps=(1,))
_gradient = _native.differentiable(
    native.gradient_op, _double_backward, "LogisticMixtureLogProbBackward"
)
