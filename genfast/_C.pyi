"""Types of the native module; csrc/ says what each function computes."""

from collections.abc import Callable, Sequence

# Address (0: none) and strides.
_Operand = tuple[int, Sequence[int]]

def build_info() -> dict[str, str]: ...
def runnable_isas() -> list[str]: ...
def current_isa() -> str: ...
def set_isa(name: str) -> None: ...
def cuda_versions() -> tuple[int, int]: ...
def unsupported_device(architectures: str, major: int, minor: int) -> str: ...
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
def gaussian_kl_fwd(
    dtype: int, shape: Sequence[int], operands: Sequence[_Operand], threads: int
) -> None: ...
def gaussian_kl_bwd(
    dtype: int, shape: Sequence[int], operands: Sequence[_Operand], threads: int
) -> None: ...
def gaussian_kl_fwd_cuda(
    dtype: int, shape: Sequence[int], operands: Sequence[_Operand], device: int, stream: int
) -> None: ...
def gaussian_kl_bwd_cuda(
    dtype: int, shape: Sequence[int], operands: Sequence[_Operand], device: int, stream: int
) -> None: ...
def gaussian_mixture_log_prob_fwd(
    options: tuple[int, int, int, int, bool],
    inputs: Sequence[_Operand],
    log_prob: int,
    evidence: int,
    allocate: Callable[[int], int],
    threads: int,
) -> None: ...
def gaussian_mixture_log_prob_bwd(
    options: tuple[int, int, int, int, bool],
    inputs: Sequence[_Operand],
    evidence: int,
    grad: _Operand,
    gradients: Sequence[int],
    allocate: Callable[[int], int],
    threads: int,
) -> None: ...
def gaussian_mixture_densities_cuda(
    shape: tuple[int, bool, int, int, int, int], addresses: Sequence[int], device: int, stream: int
) -> None: ...
def gaussian_mixture_posteriors_cuda(
    shape: tuple[int, bool, int, int, int, int], addresses: Sequence[int], device: int, stream: int
) -> None: ...
def logistic_mixture_log_prob_fwd(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    log_prob: int,
    log_prob_strides: Sequence[int],
    evidence: int,
    evidence_strides: Sequence[int],
    threads: int,
) -> None: ...
def logistic_mixture_log_prob_bwd(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    evidence: int,
    evidence_strides: Sequence[int],
    grad: int,
    grad_strides: Sequence[int],
    grad_params: int,
    grad_params_strides: Sequence[int],
    threads: int,
) -> None: ...
def logistic_mixture_sample_fwd(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    uniforms: int,
    uniforms_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    threads: int,
) -> None: ...
def lstm_scan_workspace(options: Sequence[int], backward: bool, threads: int) -> int: ...
def lstm_scan_fwd(
    options: Sequence[int],
    operands: tuple[_Operand, ...],
    kept: tuple[int, ...],
    workspace: int,
    threads: int,
) -> None: ...
def lstm_scan_bwd(
    options: Sequence[int],
    operands: tuple[_Operand, ...],
    gradients: tuple[_Operand, ...],
    kept: tuple[int, ...],
    workspace: int,
    threads: int,
) -> None: ...

class PixelProgram:
    def __init__(self, code: Sequence[int], weights: int, count: int) -> None: ...
    @property
    def floats(self) -> int: ...

class PixelImages:
    def __init__(
        self,
        x: int,
        known: int,
        outputs: int,
        inputs: Sequence[int],
        scaled: int,
        seed: int,
        start: int,
        temperature: float,
    ) -> None: ...

class PixelSampling:
    def __init__(
        self,
        program: PixelProgram,
        images: PixelImages,
        count: int,
        tiles: int,
        threads: int,
        share_pixels: bool,
    ) -> None: ...
    def run(self, first_row: int, last_row: int) -> None: ...

# Only in a build with CUDA code.
def gated_activation_fwd_cuda(
    x: int,
    x_strides: Sequence[int],
    cond: int,
    cond_strides: Sequence[int],
    y: int,
    y_shape: Sequence[int],
    y_strides: Sequence[int],
    dim: int,
    dtype: int,
    device: int,
    stream: int,
) -> None: ...
def gated_activation_bwd_cuda(
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
    device: int,
    stream: int,
) -> None: ...
def logistic_mixture_log_prob_fwd_cuda(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    log_prob: int,
    log_prob_strides: Sequence[int],
    evidence: int,
    evidence_strides: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def logistic_mixture_log_prob_bwd_cuda(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    evidence: int,
    evidence_strides: Sequence[int],
    grad: int,
    grad_strides: Sequence[int],
    grad_params: int,
    grad_params_strides: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def logistic_mixture_sample_fwd_cuda(
    options: tuple[int, int, int, int, bool],
    shape: Sequence[int],
    params: int,
    params_strides: Sequence[int],
    uniforms: int,
    uniforms_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def rejection_accept_workspace_cuda(dtype: int, count: int) -> int: ...
def rejection_compact_workspace_cuda(count: int, row_bytes: int) -> int: ...
def rejection_accept_fwd_cuda(
    dtype: int,
    count: int,
    logits: int,
    logits_stride: int,
    uniforms: int,
    uniforms_stride: int,
    log_m: int,
    seed: int,
    first: int,
    gamma: float,
    eps: float,
    accept: int,
    new_log_m: int,
    nan_count: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def rejection_compact_fwd_cuda(
    shape: Sequence[int],
    element_size: int,
    accept: int,
    accept_stride: int,
    samples: int,
    sample_strides: Sequence[int],
    out: int,
    out_strides: Sequence[int],
    accepted: int,
    clear: bool,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def lstm_scan_workspace_cuda(options: Sequence[int]) -> int: ...
def lstm_scan_fwd_cuda(
    options: Sequence[int],
    operands: tuple[_Operand, ...],
    kept: tuple[int, ...],
    line: int,
    workspace: int,
    choice: tuple[int, int],
    device: int,
    stream: int,
) -> None: ...
def lstm_scan_bwd_cuda(
    options: Sequence[int],
    operands: tuple[_Operand, ...],
    gradients: tuple[_Operand, _Operand],
    kept: tuple[int, ...],
    recompute: bool,
    line: int,
    workspace: int,
    choice: tuple[int, int],
    device: int,
    stream: int,
) -> None: ...
def masked_conv2d_workspaces(shape: Sequence[int]) -> tuple[int, int, int]: ...
def masked_conv2d_fwd_cuda(
    gate: bool,
    shape: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    bias: int,
    cond: int,
    cond_strides: Sequence[int],
    y: int,
    y_strides: Sequence[int],
    pre: int,
    pre_strides: Sequence[int],
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def masked_conv2d_bwd_input_cuda(
    shape: Sequence[int],
    grad: int,
    grad_strides: Sequence[int],
    weight: int,
    weight_strides: Sequence[int],
    grad_x: int,
    grad_x_strides: Sequence[int],
    workspace: int,
    device: int,
    stream: int,
) -> None: ...
def masked_conv2d_bwd_weight_cuda(
    shape: Sequence[int],
    grad: int,
    grad_strides: Sequence[int],
    x: int,
    x_strides: Sequence[int],
    grad_weight: int,
    grad_weight_strides: Sequence[int],
    workspace: int,
    device: int,
    stream: int,
) -> None: ...

class PixelCudaSampling:
    def __init__(
        self, program: PixelProgram, images: PixelImages, memory: int, count: int, graphs: bool
    ) -> None: ...
    def run(self, first_row: int, last_row: int, device: int, stream: int) -> None: ...

def rejection_accept_fwd(
    dtype: int,
    count: int,
    logits: int,
    logits_stride: int,
    uniforms: int,
    uniforms_stride: int,
    log_m: int,
    seed: int,
    first: int,
    gamma: float,
    eps: float,
    accept: int,
    new_log_m: int,
    nan_count: int,
    threads: int,
) -> None: ...
def rejection_compact_fwd(
    shape: Sequence[int],
    element_size: int,
    accept: int,
    accept_stride: int,
    samples: int,
    sample_strides: Sequence[int],
    out: int,
    out_strides: Sequence[int],
    accepted: int,
    clear: bool,
    threads: int,
) -> None: ...
