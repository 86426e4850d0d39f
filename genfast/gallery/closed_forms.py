"""Exhibits of what has an exact answer: distances of distributions, a game that goes in circles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from genfast.divergences import gan_value, js, wasserstein_1d
from genfast.gallery.charts import chart
from genfast.gallery.exhibit import PICTURE, Exhibit, Finding
from genfast.games import Method, play
from genfast.training.batches import load_data
from genfast.training.config import TrainConfig

_DISTANCES = range(-20, 21)
_PLACES = 64


def _divergences(folder: Path) -> Finding:
    shovels = wasserstein_1d(torch.tensor([3.0, 2, 1, 4]), torch.tensor([1.0, 2, 4, 3])).item()
    uniform = torch.full((_PLACES,), 1 / _PLACES, dtype=torch.float64)
    equal = gan_value(uniform, uniform).item()
    masses = [_mass_at(_PLACES // 2 + distance) for distance in _DISTANCES]
    here = _mass_at(_PLACES // 2)
    parallel_js = [js(here, mass).item() for mass in masses]
    parallel_w = [wasserstein_1d(here, mass).item() for mass in masses]
    held = (
        shovels == 5
        and math.isclose(equal, -2 * math.log(2), abs_tol=1e-12)
        and all(w == abs(d) for w, d in zip(parallel_w, _DISTANCES, strict=True))
        and all(
            math.isclose(j, math.log(2) if d else 0, abs_tol=1e-12)
            for j, d in zip(parallel_js, _DISTANCES, strict=True)
        )
    )
    ink = _ink_of_digits()
    between = wasserstein_1d(ink[:, None], ink[None])
    with chart(folder / PICTURE, columns=2, size=(9.5, 4.0)) as (lines, digits):
        lines.plot(_DISTANCES, parallel_w, label="Wasserstein distance")
        lines.plot(_DISTANCES, parallel_js, ".", label="Jensen-Shannon divergence")
        lines.set(xlabel="distance of two parallel lines", ylabel="between their distributions")
        lines.legend(frameon=False)
        image = digits.imshow(between.numpy(), cmap="viridis")
        digits.set(title="W1 between amounts of ink", xticks=range(10), yticks=range(10))
        digits.figure.colorbar(image, ax=digits, shrink=0.8, label="grey levels an image")
    return Finding(
        figure=f"(3,2,1,4) to (1,2,4,3): {shovels:g} shovels of earth; value of the game at equal "
        f"densities {equal:.6f}",
        check="5 shovels, -2 log 2 = -1.386294 within 1e-12; parallel lines are log 2 apart in JS at "
        "any distance, and exactly their distance apart in W1",
        passed=held,
        caption="Left: where supports do not meet, JS says nothing about the distance. Right: real "
        "digits, class by class.",
    )


def _mass_at(place: int) -> Tensor:
    mass = torch.zeros(_PLACES, dtype=torch.float64)
    mass[place] = 1
    return mass


def _ink_of_digits() -> Tensor:
    """Distribution of the sum of an image's grey levels, (class, sum)."""
    data = load_data(TrainConfig(data="digits"))
    labels = data.train.labels
    assert labels is not None
    sums = data.train.images.flatten(1).sum(1, dtype=torch.int64)
    most = int(sums.max()) + 1
    counts = [sums[labels == c].bincount(minlength=most).double() for c in range(data.num_classes)]
    return torch.stack([count / count.sum() for count in counts])


DIVERGENCES = Exhibit(
    "divergences",
    "KL, JS and Wasserstein on distributions",
    "Arjovsky, Chintala, Bottou 2017, example 1; Goodfellow et al. 2014, theorem 1",
    _divergences,
)


# ---- a game that goes in circles -----------------------------------------------------------------

_RATE, _STEPS, _CONSENSUS = 0.1, 100, 0.7


def _cycling(folder: Path) -> Finding:
    one = torch.ones((), dtype=torch.float64)
    methods: tuple[Method, ...] = get_args(Method)
    paths = {
        method: play(
            lambda x, y: x * y, one, one, steps=_STEPS, lr=_RATE, method=method, consensus=_CONSENSUS
        )
        for method in methods
    }
    radius = {method: (torch.hypot(x, y) / math.sqrt(2)) for method, (x, y) in paths.items()}
    steps = torch.arange(_STEPS + 1, dtype=torch.float64)
    error = (radius["simultaneous"] / (1 + _RATE**2) ** (steps / 2) - 1).abs().max().item()
    last = {method: r[-1].item() for method, r in radius.items()}
    with chart(folder / PICTURE, columns=2, size=(9.5, 4.0)) as (plane, distances):
        for method, (x, y) in paths.items():
            plane.plot(x, y, label=method, linewidth=1)
            distances.semilogy(radius[method], label=method)
        plane.set(xlabel="x, who descends xy", ylabel="y, who ascends it", aspect="equal")
        distances.set(xlabel="step", ylabel="distance from the equilibrium")
        distances.legend(frameon=False)
    return Finding(
        figure=f"distance from the equilibrium after {_STEPS} steps: {last['simultaneous']:.6f} of the "
        f"first; extragradient {last['extragradient']:.3f}, consensus {last['consensus']:.1e}",
        check=f"at every step the distance is (1 + rate^2)^(n/2), within {error:.0e} (1e-12); "
        "extragradient and consensus steps arrive",
        passed=error <= 1e-12 and last["extragradient"] < 0.7 and last["consensus"] < 1e-2,
        caption="Two players of the value xy. Simultaneous gradient steps leave its equilibrium.",
    )


CYCLING = Exhibit(
    "nash-cycling",
    "Nash cycling and what fixes it",
    "Korpelevich 1976; Mescheder, Nowozin, Geiger 2017",
    _cycling,
)
