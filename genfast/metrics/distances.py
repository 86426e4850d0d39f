"""Distances between two sets of samples, from their features."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 1024


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Between the Gaussians with the means and covariances of both sets, in fp64.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2) (Dowson and Landau 1982). With features of the
    published Inception network it is the FID of Heusel et al. (2017), with others it is not. It falls
    with the number of samples: compare only figures of equally many.

    Args:
        real: (N, D) features, N >= 2.
        fake: (M, D), M >= 2.

    Raises:
        ValueError: shapes that do not fit.

    >>> x = torch.randn(500, 3, dtype=torch.float64)
    >>> round(frechet_distance(x, x + torch.tensor([3.0, 0.0, 4.0])), 6)
    25.0
    """
    _check_features(real, fake, 2)
    (mean_a, cov_a), (mean_b, cov_b) = _moments(real), _moments(fake)
    root = _square_root(cov_a)
    between = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * between
    return max(0.0, float(distance))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """The part of `fake` that lies near `real`, and the part of `real` that lies near `fake`.

    Near is within the distance of some sample of the set to its k-th nearest neighbour in the set
    (Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
    equations 1 and 2).

    Args:
        real: (N, D) features, N > k.
        fake: (M, D), M > k.
        k: at least 1.

    Raises:
        ValueError: shapes that do not fit, k out of its range.

    >>> x = torch.randn(200, 2)
    >>> precision_recall(x, x), precision_recall(x, x + 100)
    ((1.0, 1.0), (0.0, 0.0))
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    _check_features(real, fake, k + 1)
    real, fake = real.double(), fake.double()
    return _share_within(real, fake, k), _share_within(fake, real, k)


def wasserstein_1d_samples(x: Tensor, y: Tensor) -> float:
    """W1 between two sets of as many numbers: the mean distance of their order statistics.

    Args:
        x: (N,), N >= 1.
        y: (N,).

    Raises:
        ValueError: shapes that do not fit.

    >>> wasserstein_1d_samples(torch.tensor([0.0, 1.0]), torch.tensor([4.0, 2.0]))
    2.5
    """
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"x and y must be (N,) alike, got {tuple(x.shape)} and {tuple(y.shape)}")
    return (x.double().sort().values - y.double().sort().values).abs().mean().item()


def _check_features(real: Tensor, fake: Tensor, least: int) -> None:
    shapes = tuple(real.shape), tuple(fake.shape)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"real and fake must be (N, D) and (M, D), got {shapes}")
    if min(len(real), len(fake)) < least:
        raise ValueError(f"real and fake must have at least {least} samples, got {shapes}")


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def _square_root(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _share_within(known: Tensor, asked: Tensor, k: int) -> float:
    """The part of `asked` that lies within the balls around `known`; N x M distances in parts."""
    radii = torch.cat(
        # Itself is the first of its neighbours.
        [
            _distances(part, known).topk(k + 1, largest=False).values[:, -1]
            for part in known.split(_CHUNK)
        ]
    )
    within = [(_distances(part, known) <= radii).any(1) for part in asked.split(_CHUNK)]
    return torch.cat(within).double().mean().item()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Exact, by differences: by products a sample would not be at distance 0 from itself."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
