"""Two players on one value function: why simultaneous gradient steps cycle, and what fixes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

Method = Literal["simultaneous", "alternating", "extragradient", "consensus"]
Value = Callable[[Tensor, Tensor], Tensor]


def play(
    value: Value,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    lr: float,
    method: Method = "simultaneous",
    consensus: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Gradient play: x descends the value, y ascends it.

    On value x * y, whose only equilibrium is the origin, a step multiplies the distance from it by
    sqrt(1 + lr^2) if "simultaneous" (at every step, whatever the signs), and by
    sqrt(1 - lr^2 + lr^4) if "extragradient"; "consensus" gives sqrt((1 - lr * consensus)^2 + lr^2), and
    "alternating" goes round an ellipse for ever (lr < 2).

    - "simultaneous": both move by the gradient where they stand.
    - "alternating": y answers x's move.
    - "extragradient": both move by the gradient that they would find after a simultaneous step
      (Korpelevich 1976).
    - "consensus": both also descend consensus / 2 times the squared norm of the gradient (Mescheder et
      al., "The Numerics of GANs", 2017).

    Args:
        value: a differentiable function of x and y with a 0-dim result.
        x, y: where the players begin; floating, of any shapes.
        steps: how many, at least 0.
        lr: of both players, positive.
        method: one of the above.
        consensus: its weight, at least 0.

    Returns:
        The trajectories, (steps + 1, *x.shape) and (steps + 1, *y.shape), without gradient.

    Raises:
        ValueError: a number out of its range, or an unknown method.

    >>> import torch
    >>> from genfast.games import play
    >>> one = torch.ones((), dtype=torch.float64)
    >>> for method in ("simultaneous", "extragradient"):
    ...     x, y = play(lambda x, y: x * y, one, one, steps=100, lr=0.1, method=method)
    ...     print(round((torch.hypot(x, y)[-1] / torch.hypot(x, y)[0]).item(), 6))
    1.644632
    0.608069
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not lr > 0:
        raise ValueError(f"lr must be positive, got {lr}")
    if not consensus >= 0:
        raise ValueError(f"consensus must be at least 0, got {consensus}")
    x, y = x.detach().clone(), y.detach().clone()
    xs, ys = [x], [y]
    for _ in range(steps):
        along_x, along_y = _directions(value, x, y, consensus if method == "consensus" else 0.0)
        if method == "extragradient":
            along_x, along_y = _directions(value, x + lr * along_x, y + lr * along_y)
        x = x + lr * along_x
        if method == "alternating":
            _, along_y = _directions(value, x, y)
        y = y + lr * along_y
        xs.append(x)
        ys.append(y)
    return torch.stack(xs), torch.stack(ys)


def _directions(value: Value, x: Tensor, y: Tensor, consensus: float = 0.0) -> tuple[Tensor, Tensor]:
    """Where the players go: down and up the value, and down the gradient's norm by `consensus`."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    with torch.enable_grad():
        of_x, of_y = torch.autograd.grad(value(x, y), (x, y), create_graph=consensus > 0)
        along_x, along_y = -of_x.detach(), of_y.detach()
        if consensus > 0:
            norm = (of_x.square().sum() + of_y.square().sum()) / 2
            norm_x, norm_y = torch.autograd.grad(norm, (x, y))
            along_x, along_y = along_x - consensus * norm_x, along_y - consensus * norm_y
    return along_x, along_y
