"""What `genfast.verify` found, and its table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """The figures of one model.

    Attributes:
        error: largest absolute difference of an output from the reference.
        relative_error: that, over the largest absolute value of an output.
        gradient_error, relative_gradient_error: likewise of the gradient of any parameter or input;
            None if nothing takes a gradient.
        forward_ms: median time of a forward without gradients, in milliseconds.
        training_ms: of a forward and a backward; None if nothing takes a gradient.
        peak_mib: most memory of tensors during the latter (or the former), in MiB, without parameters.
    """

    error: float
    relative_error: float
    gradient_error: float | None
    relative_gradient_error: float | None
    forward_ms: float
    training_ms: float | None
    peak_mib: float


@dataclass(frozen=True)
class Verification:
    """What `genfast.verify` found; print it for the table.

    Attributes:
        plain, fast: figures of the model as it was, and swapped.
        difference: largest absolute difference between an output of the two.
        gradient_difference: of a gradient; None if nothing takes one.
        replaced: number of modules of the swapped model that are twins.
        reference: "float64", or "the plain model" where that cannot run in float64.
        setting: dtype, device and threads.
    """

    plain: Side
    fast: Side
    difference: float
    gradient_difference: float | None
    replaced: int
    reference: str
    setting: str

    @property
    def forward_speedup(self) -> float:
        """How many times as fast a forward is."""
        return self.plain.forward_ms / self.fast.forward_ms

    @property
    def training_speedup(self) -> float | None:
        """How many times as fast a forward and a backward are."""
        if self.plain.training_ms is None or self.fast.training_ms is None:
            return None
        return self.plain.training_ms / self.fast.training_ms

    def __str__(self) -> str:
        plain, fast = self.plain, self.fast
        rows = [
            ("", "plain", "genfast", ""),
            ("output: largest error", f"{plain.error:.1e}", f"{fast.error:.1e}", ""),
            ("  of the largest value", f"{plain.relative_error:.1e}", f"{fast.relative_error:.1e}", ""),
        ]
        if plain.gradient_error is not None and fast.gradient_error is not None:
            rows += [
                (
                    "gradient: largest error",
                    f"{plain.gradient_error:.1e}",
                    f"{fast.gradient_error:.1e}",
                    "",
                ),
                (
                    "  of the largest value",
                    f"{plain.relative_gradient_error:.1e}",
                    f"{fast.relative_gradient_error:.1e}",
                    "",
                ),
            ]
        speedup = f"{self.forward_speedup:.2f}x"
        rows.append(("forward, ms", f"{plain.forward_ms:.2f}", f"{fast.forward_ms:.2f}", speedup))
        if self.training_speedup is not None:
            times = (f"{plain.training_ms:.2f}", f"{fast.training_ms:.2f}")
            rows.append(("forward + backward, ms", *times, f"{self.training_speedup:.2f}x"))
        rows.append(("peak memory, MiB", f"{plain.peak_mib:.1f}", f"{fast.peak_mib:.1f}", ""))
        table = [f"{name:<25}{a:>12}{b:>12}{c:>9}".rstrip() for name, a, b, c in rows]
        head = f"{self.replaced} modules replaced; {self.setting}; errors against {self.reference}"
        tail = f"largest difference between the two: output {self.difference:.1e}"
        if self.gradient_difference is not None:
            tail += f", gradient {self.gradient_difference:.1e}"
        return "\n".join([head, *table, tail])
