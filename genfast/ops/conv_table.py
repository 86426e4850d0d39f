"""Where genfast's masked convolutions were faster than cuDNN's on the cropped kernel.

Made by `python -m genfast.benchmarks.conv_rule`; do not edit.
"""

from __future__ import annotations

#: (op, arithmetic, kernel size, input channels) -> whether genfast's kernel was faster.
MEASURED: dict[tuple[str, str, int, int], bool] = {
    # Not measured: cuDNN everywhere.
}
