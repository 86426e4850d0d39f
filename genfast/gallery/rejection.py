"""Exhibit of discriminator rejection sampling: 25 Gaussians, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genfast.gallery import gaussians
from genfast.gallery.charts import chart
from genfast.gallery.exhibit import PICTURE, Exhibit, Finding
from genfast.gallery.gaussians import PointGAN, Quality, quality
from genfast.sampling import DiscriminatorRejectionSampler, normal_latents

STEPS = 5000
PERCENTILE = 80.0
_BURN_IN = 10_000
_SHOWN = 2500


@dataclass(frozen=True)
class Comparison:
    """A GAN's points as they come, and those accepted."""

    plain: Tensor
    accepted: Tensor
    acceptance: float

    @property
    def qualities(self) -> tuple[Quality, Quality]:
        """Before and after."""
        return quality(self.plain), quality(self.accepted)

    @property
    def passed(self) -> bool:
        """At least 3 points more of high quality, and no mode lost of all 25."""
        before, after = self.qualities
        return after.high >= before.high + 0.03 and after.modes == 25


def compare(model: PointGAN, n: int, *, percentile: float = PERCENTILE, seed: int = 1) -> Comparison:
    """n points each way."""
    sampler = DiscriminatorRejectionSampler(
        model.generator, model.discriminator, 2, percentile=percentile, seed=seed, batch_size=4096
    )
    sampler.burn_in(_BURN_IN)
    accepted = sampler.sample(n)
    with torch.no_grad():
        plain = model.generator(normal_latents(2)(n, seed, 0))
    return Comparison(plain, accepted, sampler.state.acceptance)


def draw(path: Path, comparison: Comparison) -> None:
    """Real, plain and accepted points side by side."""
    generator = torch.Generator().manual_seed(0)
    real = gaussians.draw_points(_SHOWN, generator)
    before, after = comparison.qualities
    panels = (
        ("real", real),
        (f"generated: {before.high:.1%} of high quality", comparison.plain),
        (f"accepted: {after.high:.1%}", comparison.accepted),
    )
    with chart(path, columns=3, size=(12.0, 4.2)) as axes:
        for axis, (title, points) in zip(axes, panels, strict=True):
            axis.scatter(*points[:_SHOWN].T.numpy(), s=2, alpha=0.5, linewidths=0)
            axis.set(title=title, xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal")


def _rejection(folder: Path) -> Finding:
    comparison = compare(gaussians.train(STEPS), 10_000)
    draw(folder / PICTURE, comparison)
    before, after = comparison.qualities
    return Finding(
        figure=f"generated: {before}; accepted ({comparison.acceptance:.0%} of the proposals): {after}",
        check="at least 3 points more of high quality (within 4 standard deviations of a centre), with "
        "all 25 modes",
        passed=comparison.passed,
        caption="25 Gaussians: real points, a GAN's as they come, and those its discriminator accepts.",
    )


REJECTION = Exhibit(
    "rejection-sampling", "Discriminator rejection sampling", "Azadi et al. 2018", _rejection
)
