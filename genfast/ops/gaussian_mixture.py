"""gaussian_mixture_log_prob: the log-density of a mixture of Gaussians in O(B + N) memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from genfast.ops import _native
from genfast.ops import gaussian_mixture_native as native
from genfast.reference import gaussian_mixture as plain

Precision = Literal["fp32", "tf32"]


def gaussian_mixture_log_prob(
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    *,
    log_weights: Tensor | None = None,
    query_ids: Tensor | None = None,
    component_ids: Tensor | None = None,
    precision: Precision = "fp32",
) -> Tensor:
    """log sum_n w_n N(z_b; means_n, diag exp(log_var)) in nats, without a B x N matrix.

    The prior of the Exemplar VAE (one variance, leaving out the query's own component) and of the
    VampPrior VAE (one variance a component and dimension). Everything is computed relative to a point
    amid the components, so that data far from the origin lose no digits. Backward computes the
    posteriors again from what forward keeps, two numbers a query.

    Source: Norouzi et al., "Exemplar VAE" (2020), eq. 6-8; Tomczak and Welling, "VAE with a VampPrior"
    (2018), eq. 9.

    Args:
        z: (B, D), any strides; fp32, fp64, bf16 or fp16. 16 bits are computed in fp32.
        means: (N, D), of the dtype of `z` (under torch.autocast of any), as the other tensors but ids.
        log_var: logarithms of variances: a scalar, (D,) or (N, D).
        log_weights: (N,), used as they are, never renormalised. Where not given, the components that are
            not left out have equal weights that sum to 1.
        query_ids: (B,) integers. Components whose id equals the query's are left out.
        component_ids: (N,) integers, of which several may be equal; given if and only if query_ids is.
        precision: of the products on CUDA: "fp32", or "tf32", which is faster and for which the density
            is that of slightly moved points.

    Returns:
        (B,), of the dtype of `z`; under torch.autocast fp32 where that has 16 bits. -inf, with gradients
        of zero, where no component is left.

    Raises:
        TypeError: an argument is not a tensor of a supported dtype, or the dtypes differ.
        ValueError: wrong shapes, one kind of ids alone, unknown precision, or "tf32" on a CPU; devices
            differ.

    There are gradients of z, means, log_var and log_weights. Posteriors below 2^-40 may count as 0 in
    them. Double backward is right, and runs in plain PyTorch with a B x N matrix.

    >>> import torch, genfast
    >>> z, exemplars = torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    >>> genfast.ops.gaussian_mixture_log_prob(z, exemplars, torch.zeros(()))
    tensor([-2.9759, -2.9759])
    >>> ids = torch.arange(2)
    >>> genfast.ops.gaussian_mixture_log_prob(
    ...     z, exemplars, torch.zeros(()), query_ids=ids, component_ids=ids
    ... )
    tensor([-3.2568, -2.7568])
    """
    _native.check_tensor("z", z, ndim=2)
    _native.check_tensor("means", means, ndim=2)
    _native.check_tensor("log_var", log_var)
    _check_shapes(z, means, log_var)
    tensors = {"z": z, "means": means, "log_var": log_var}
    if log_weights is not None:
        _native.check_tensor("log_weights", log_weights)
        _check_length("log_weights", log_weights, "component", means)
        tensors["log_weights"] = log_weights
    query_ids, component_ids = _checked_ids(query_ids, component_ids, z, means)
    _check_precision(precision, z)
    if _native.autocast_active(z):
        tensors = {name: t.to(native.arithmetic(t)) for name, t in tensors.items()}
    for name, value in tensors.items():
        _native.check_like(name, value, "z", tensors["z"])
    spread = tensors["log_var"]
    spread = spread.expand(z.shape[1]) if spread.ndim == 0 else spread
    log_prob: Tensor = _log_prob(
        tensors["z"], tensors["means"], spread, tensors.get("log_weights"), query_ids, component_ids,
        precision == "tf32",
    )  # fmt: skip
    return log_prob.to(tensors["z"].dtype)


# ---- arguments -----------------------------------------------------------------------------------


def _check_shapes(z: Tensor, means: Tensor, log_var: Tensor) -> None:
    if z.shape[1] == 0:
        raise ValueError(f"z must have at least 1 column, got shape {tuple(z.shape)}")
    if means.shape[1] != z.shape[1]:
        raise ValueError(
            f"means of shape {tuple(means.shape)} must have the columns of z, {tuple(z.shape)}"
        )
    (components, dim), shape = means.shape, log_var.shape
    if shape not in ((), (dim,), (components, dim)):
        raise ValueError(
            f"log_var must be a scalar, ({dim},) or ({components}, {dim}), got shape {tuple(shape)}"
        )


def _check_length(name: str, value: Tensor, what: str, rows: Tensor) -> None:
    if value.shape != rows.shape[:1]:
        raise ValueError(
            f"{name} must have one entry a {what}, ({rows.shape[0]},), got shape {tuple(value.shape)}"
        )


def _checked_ids(
    query_ids: Tensor | None, component_ids: Tensor | None, z: Tensor, means: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if query_ids is None and component_ids is None:
        return None, None
    if query_ids is None or component_ids is None:
        given, missing = ("query_ids", "component_ids")[:: 1 if component_ids is None else -1]
        raise ValueError(f"{given} is given, but {missing} is not: they are compared with each other")
    rows = {
        "query_ids": (query_ids, "row of z", z),
        "component_ids": (component_ids, "component", means),
    }
    for name, (ids, what, like) in rows.items():
        if not isinstance(ids, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(ids).__name__}")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"{name} must be integers, got {ids.dtype}")
        _check_length(name, ids, what, like)
        if ids.device != z.device:
            raise ValueError(f"{name} is on {ids.device} but z is on {z.device}")
    return query_ids.long(), component_ids.long()


def _check_precision(precision: str, z: Tensor) -> None:
    if precision not in ("fp32", "tf32"):
        raise ValueError(f'precision must be "fp32" or "tf32", got {precision!r}')
    if precision == "tf32" and z.device.type == "cpu":
        raise ValueError('precision "tf32" is for CUDA tensors; z is on cpu, where "fp32" is as fast')


# ---- derivatives ---------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool],
    grad: Tensor,
    evidence: Tensor,
    z: Tensor,
    means: Tensor,
    log_var: Tensor,
    *others: Tensor | bool | None,
) -> tuple[Tensor | None, ...]:
    wanted = list(needs[:4])
    gradients = _gradient(grad, evidence, z, means, log_var, *others, wanted)
    of_inputs = [g.to(z.dtype) if want else None for g, want in zip(gradients, wanted, strict=True)]
    return *of_inputs, None, None, None


def _double_backward(
    needs: Sequence[bool],
    *arguments: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of <v, gradients> in plain PyTorch, differentiable to any order.

    The evidence is taken for what it is, a function of the others, and gets no gradient of its own.
    """
    vs, (grad, _, *inputs) = arguments[:4], arguments[4:10]
    query_ids, component_ids, _, wanted = arguments[10:]
    given = [i for i, t in enumerate(inputs) if t is not None]
    asked = [i for i in given if wanted[i]]

    def log_prob_of(*given: Tensor) -> Tensor:
        return plain.gaussian_mixture_log_prob(
            *given[:3], log_weights=given[3] if given[3:] else None,
            query_ids=query_ids, component_ids=component_ids,
        )  # fmt: skip

    def gradients(grad: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        every = torch.func.vjp(log_prob_of, *given)[1](grad)
        return tuple(every[i] for i in asked)

    wide = [inputs[i].to(grad.dtype) for i in given]
    pull_back = torch.func.vjp(gradients, grad, *wide)[1]
    of_grad, *of_given = pull_back(tuple(vs[i].to(grad.dtype) for i in asked))
    of_inputs: list[Tensor | None] = [None] * 4
    for i, g in zip(given, of_given, strict=True):
        of_inputs[i] = g.to(inputs[i].dtype)
    return of_grad, None, *of_inputs, None, None, None, None


_log_prob = _native.differentiable(native.log_prob_op, _backward, "GaussianMixture", keeps=(1,))
_gradient = _native.differentiable(
    native.gradient_op, _double_backward, "GaussianMixtureLogProbBackward", returns=4
)
