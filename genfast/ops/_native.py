"""What every op of genfast is made of: registration, autograd, autocast and argument checks.

An op has three callables. `define` registers the first two under `torch.ops.genfast.<name>`: the
kernel, which gets real tensors and calls `genfast._C` on their addresses, and the fake, which only
says what comes out. `differentiable` wraps the registered op together with its backward.

Registration goes through `Library.define/impl`: the `custom_op` decorator costs 4 us more a call, and
`register_autograd` 6 us more than the autograd.Function used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genfast import _C

_LIBRARY = torch.library.Library("genfast", "DEF")

# Element types and their codes in csrc/common/dtype.h.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


#: The CUDA architectures in this build, e.g. ["80", "90a"]; empty if it has no CUDA code.
CUDA_ARCHITECTURES = _C.build_info()["cuda_archs"].split()

#: The CUDA kernel of every op, whether or not this build can run it.
CUDA_KERNELS: dict[str, Callable[..., Any]] = {}


def define(
    schema: str,
    *,
    cuda: Callable[..., Any],
    cpu: Callable[..., Any] | None = None,
    fake: Callable[..., Any],
) -> torch._ops.OpOverload:
    """Registers an op and returns it.

    Args:
        schema: e.g. "twice(Tensor x) -> Tensor".
        cuda: the kernel for CUDA tensors; in a build without CUDA code, calls raise instead.
        cpu: the kernel for CPU tensors, if there is one.
        fake: the same signature; returns empty tensors of the right shape, dtype and strides.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    if cpu is not None:
        _LIBRARY.impl(name, cpu, "CPU")
    CUDA_KERNELS[name] = cuda
    _LIBRARY.impl(name, cuda if CUDA_ARCHITECTURES else _without_cuda(name), "CUDA")
    torch.library.register_fake(f"genfast::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.genfast, name).default  # type: ignore[no-any-return]


def _without_cuda(name: str) -> Callable[..., Any]:
    def refuse(*args: Any) -> Any:
        raise RuntimeError(
            f"{name}: the tensors are on a GPU, but this build of genfast has no CUDA code; "
            f"rebuild it with GENFAST_CUDA=on (needs nvcc), or move the tensors to the CPU"
        )

    return refuse


def device_and_stream(x: Tensor) -> tuple[int, int]:
    """Where a CUDA kernel on `x` runs: the index of its device, the handle of the current stream."""
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream


def vmap_rule(name: str, rule: Callable[..., Any]) -> None:
    """Registers a batching rule for the op (torch.library.register_vmap describes `rule`).

    torch 2.4, which has no such registry, loops over the batch instead, with a warning.
    """
    if not TORCH_2_4:
        torch.library.register_vmap(f"genfast::{name}", rule, lib=_LIBRARY)


def batch_first(value: Tensor, batch_dim: int | None, size: int) -> Tensor:
    """`value` with its vmapped dimension in front; expanded to `size` if it has none."""
    if batch_dim is None:
        return value.expand(size, *value.shape)
    return value.movedim(batch_dim, 0)


def differentiable(
    op: torch._ops.OpOverload,
    backward: Callable[..., Sequence[Tensor | None]],
    name: str,
    *,
    returns: int = 1,
    keeps: Sequence[int] = (),
) -> Callable[..., Any]:
    """The op with a gradient.

    Args:
        op: a registered op. It is never given a way round the dispatcher: under vmap or compilation
            there is no pointer to take.
        backward: called as `backward(needs, *grads, *kept, *arguments)`, where `needs` says argument by
            argument whether a gradient is wanted; returns one gradient (or None) an argument. It
            must itself be made of differentiable functions, so that double backward is right.
        name: of the autograd node, seen in profiles and error messages.
        returns: how many of the op's outputs, the first ones, are returned and have a gradient; more
            than one come as a tuple. The others have none.
        keeps: which outputs the backward gets, in this order.
    """

    def forward(*args: Any) -> Any:
        return op(*args)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = (output,) if isinstance(output, Tensor) else output
        if outputs[returns:]:
            ctx.mark_non_differentiable(*outputs[returns:])
        # Lists, in every call: a generator costs twice as much to begin as these have to do.
        kept = [outputs[i] for i in keeps]
        ctx.save_for_backward(*kept, *[a for a in inputs if isinstance(a, Tensor)])
        ctx.others = [None if isinstance(a, Tensor) else (a,) for a in inputs]

    def run_backward(ctx: Any, *grads: Tensor) -> Any:
        tensors = iter(ctx.saved_tensors)
        kept = [next(tensors) for _ in keeps]
        arguments = [next(tensors) if other is None else other[0] for other in ctx.others]
        return tuple(backward(ctx.needs_input_grad, *grads[:returns], *kept, *arguments))

    function = type(
        name,
        (torch.autograd.Function,),
        {
            "generate_vmap_rule": True,
            "forward": staticmethod(forward),
            "setup_context": staticmethod(setup_context),
            "backward": staticmethod(run_backward),
        },
    )

    # Function.apply inspects the signature of forward at every call, 8 us; its base does not.
    apply = super(torch.autograd.Function, function).apply  # type: ignore[misc]

    def call(*args: Any) -> Any:
        # Inside torch.func transforms requires_grad says nothing about the outer levels.
        if transforms_active():
            return function.apply(*args)  # type: ignore[attr-defined]
        if not torch.is_grad_enabled() or True not in [
            a.requires_grad for a in args if isinstance(a, Tensor)
        ]:
            return op(*args)  # 3 us less
        if torch.compiler.is_compiling():
            return function.apply(*args)  # type: ignore[attr-defined]
        return apply(*args)

    def call_and_drop(*args: Any) -> Any:
        outputs = call(*args)
        return outputs[0] if returns == 1 else outputs[:returns]

    return call if len(op._schema.returns) == returns else call_and_drop


#: What torch 2.4 lacks: vmap rules of registered ops, some tracing, messages of traced errors.
TORCH_2_4 = not hasattr(torch.library, "register_vmap")


def transforms_active() -> bool:
    """Whether a torch.func transform is under way. torch 2.4 cannot trace the question."""
    if TORCH_2_4 and torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active()


def sum_to(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of a tensor that was broadcast: `grad` summed back to the shape of `like`."""
    return grad if grad.shape == like.shape else grad.sum_to_size(like.shape)


# ---- argument checks -----------------------------------------------------------------------------


def check_tensor(name: str, value: Any, *, ndim: int | None = None) -> None:
    """Raises unless `value` is a floating-point tensor of a supported dtype (and of `ndim` dims)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.dtype not in DTYPES:
        known = ", ".join(str(d) for d in DTYPES)
        raise TypeError(f"{name} has dtype {value.dtype}; supported are {known}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} has layout {value.layout}; only dense tensors are supported")
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(value.shape)}")


def check_int(name: str, value: Any) -> None:
    """Raises unless `value` is an int."""
    if not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an int, got {value!r}")


def check_like(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raises unless both tensors have one dtype and one device."""
    if value.dtype != other.dtype:
        raise TypeError(
            f"{name} has dtype {value.dtype} but {other_name} has {other.dtype}; "
            f"convert one of them, or run under torch.autocast"
        )
    if value.device != other.device:
        raise ValueError(f"{name} is on {value.device} but {other_name} is on {other.device}")


def autocast_active(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of `x`."""
    return torch.is_autocast_enabled(x.device.type)


def lower_precision(x: Tensor) -> Tensor:
    """`x` as torch.autocast would hand it to a convolution."""
    if not autocast_active(x) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))
