"""Types of the native module; csrc/ says what each function computes."""

from collections.abc import Sequence

def build_info() -> dict[str, str]: ...
def runnable_isas() -> list[str]: ...
def current_isa() -> str: ...
def set_isa(name: str) -> None: ...
def gated_activation_fwd(
    x: int,
    x_strides: Sequence[int],
    cond: int,
    cond_strides: Sequence[int],
    y: int,
    y_shape: Sequence[int],
    y_strides: Sequence[int],
    dim: int,
    dtype: int,
    threads: int,
) -> None: ...
def gated_activation_bwd(
    x: int,
    x_strides: Sequence[int],
    cond: int,
    cond_strides: Sequence[int],
    grad_y: int,
    y_shape: Sequence[int],
    grad_y_strides: Sequence[int],
    grad_x: int,
    grad_x_strides: Sequence[int],
    dim: int,
    dtype: int,
    threads: int,
) -> None: ...
