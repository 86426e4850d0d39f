"""Directions in the latent space of a generator that change images in ways that can be told apart.

Source: Voynov and Babenko, "Unsupervised Discovery of Interpretable Directions in the GAN Latent Space"
(2020), equation 1 and sections 3.2-3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from genfast.models.adversarial.noise import Prior
from genfast.models.adversarial.reconstructors import LeNetReconstructor, ResNetReconstructor
from genfast.sampling.modes import evaluating

#: Images (N, C, H, W) from z (N, latent_dim), and from labels (N,) int64 of a conditional one.
Generator = Callable[..., Tensor]


def shift_magnitudes(n: int, most: float = 6.0, least: float = 0.5) -> Tensor:
    """(n,) of `most` U(-1, 1); what is nearer to 0 than `least` is moved there, 0 itself to +least.

    >>> _ = torch.manual_seed(0)
    >>> bool((shift_magnitudes(1000).abs() >= 0.5).all())
    True
    """
    return away_from_zero(most * (2 * torch.rand(n) - 1), least)


def away_from_zero(shifts: Tensor, least: float) -> Tensor:
    """Shifts of at least `least` in size, their signs kept; that of 0 is +."""
    signs = torch.where(shifts < 0, -1.0, 1.0)
    return signs * shifts.abs().clamp(min=least)


class LatentDirections(nn.Module):
    """k directions a_1..a_k, found with a reconstructor R of (k, e) from G(z) and G(z + e a_k).

    Minimises E [CE(k, k') + weight |e - e'|] over the directions and R. The generator stays as it is: it
    is called in evaluation mode, its weights get no gradient and are not in `parameters()`. (That holds
    for an `nn.Module`; of another callable, weights that require gradients get them.)

    Args:
        generator: images (N, C, H, W) from z (N, latent_dim); with `num_classes` it takes labels too.
        latent_dim: numbers in z.
        k: directions; at most latent_dim if orthonormal.
        parametrization: "orthonormal" columns of exp(L - L^T), or "unit" columns of length 1.
        reconstructor: "lenet", "resnet18", or a module that takes both images and gives logits (N, k)
            and shifts (N,).
        channels: C of the images, for a reconstructor by name.
        width: of a reconstructor by name; its own default if None (2 for LeNet, 64 for ResNet-18).
        num_classes: of a conditional generator; labels are drawn evenly.
        prior: law of z.
        max_shift, min_shift: e is uniform on (-max, max), but at least min in size.
        magnitude_weight: of |e - e'|.

    Raises:
        ValueError: an argument out of its range.

    >>> picture = nn.Sequential(nn.Linear(5, 64), nn.Unflatten(1, (1, 8, 8)))
    >>> model = LatentDirections(picture, latent_dim=5, k=3)
    >>> model.directions.shape, model.loss(batch_size=4).shape
    (torch.Size([5, 3]), torch.Size([]))
    """

    def __init__(
        self,
        generator: Generator,
        latent_dim: int,
        k: int,
        parametrization: Literal["orthonormal", "unit"] = "orthonormal",
        *,
        reconstructor: Literal["lenet", "resnet18"] | nn.Module = "lenet",
        channels: int = 1,
        width: int | None = None,
        num_classes: int = 0,
        prior: Prior = "normal",
        max_shift: float = 6.0,
        min_shift: float = 0.5,
        magnitude_weight: float = 0.25,
    ) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {latent_dim}")
        if parametrization not in ("orthonormal", "unit"):
            raise ValueError(f"parametrization must be 'orthonormal' or 'unit', got {parametrization!r}")
        most = latent_dim if parametrization == "orthonormal" else k
        if not 1 <= k <= most:
            raise ValueError(f"k must be 1 to {most} for {parametrization} directions, got {k}")
        if not 0 < min_shift <= max_shift:
            raise ValueError(
                f"min_shift must be above 0, at most max_shift={max_shift}, got {min_shift}"
            )
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (unconditional) or positive, got {num_classes}")
        object.__setattr__(self, "generator", generator)  # not a part of this module
        self.generator: Generator
        self.latent_dim, self.k, self.num_classes, self.prior = latent_dim, k, num_classes, prior
        self.parametrization = parametrization
        self.max_shift, self.min_shift = max_shift, min_shift
        self.magnitude_weight = magnitude_weight
        columns = latent_dim if parametrization == "orthonormal" else k
        weight = torch.randn(latent_dim, columns)
        # Of length 1, so that a step of any optimiser turns all directions by about as much.
        self.weight = nn.Parameter(F.normalize(weight, dim=0))
        self.reconstructor = _reconstructor(reconstructor, channels, k, width)

    @property
    def directions(self) -> Tensor:
        """The directions as columns (latent_dim, k), each of length 1; a function of `weight`."""
        if self.parametrization == "unit":
            return F.normalize(self.weight, dim=0)
        rotation: Tensor = torch.linalg.matrix_exp(self.weight - self.weight.T)
        return rotation[:, : self.k]

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The generator's images of z (N, latent_dim), with gradients to z alone."""
        given = (z,) if labels is None else (z, labels)
        if not isinstance(self.generator, nn.Module):
            return self.generator(*given)
        frozen = {name: weight.detach() for name, weight in self.generator.named_parameters()}
        with evaluating(self.generator):
            images: Tensor = functional_call(self.generator, frozen, given)
        return images

    def draw(self, n: int) -> tuple[Tensor, Tensor | None]:
        """z (n, latent_dim) and labels (n,), if there are classes, from torch's generator."""
        device = self.weight.device
        normal = self.prior == "normal"
        z = torch.randn(n, self.latent_dim) if normal else 2 * torch.rand(n, self.latent_dim) - 1
        labels = torch.randint(self.num_classes, (n,)).to(device) if self.num_classes else None
        return z.to(device, self.weight.dtype), labels

    def loss(self, batch_size: int = 32) -> Tensor:
        """Cross-entropy of the direction + `magnitude_weight` times the mean |e - e'|: 0-dim."""
        logits, shifts, index, magnitude = self._reconstructed(batch_size)
        distance = (shifts.float() - magnitude).abs().mean()
        return F.cross_entropy(logits.float(), index) + self.magnitude_weight * distance

    @torch.no_grad()
    def accuracy(self, batches: int = 100, batch_size: int = 32) -> float:
        """RCA: how often R, in evaluation mode, names the right direction.

        Fixed random directions may reach nearly 1 as well: it does not show that any were discovered.
        """
        right = 0
        with evaluating(self):
            for _ in range(batches):
                logits, _, index, _ = self._reconstructed(batch_size)
                right += int((logits.argmax(1) == index).sum())
        return right / (batches * batch_size)

    @torch.no_grad()
    def alive_energy(self, alive: Tensor) -> float:
        """Mean squared length of the directions' parts in a subspace.

        For random directions it is about d / latent_dim.

        Args:
            alive: (latent_dim, d), columns that span the subspace in which images change.
        """
        basis = torch.linalg.qr(alive.to(self.directions.dtype)).Q
        return float((basis.T @ self.directions).square().sum(0).mean())

    def shift(self, z: Tensor, index: int | Tensor, magnitude: float | Tensor) -> Tensor:
        """z + magnitude a_index: (N, latent_dim); index and magnitude one for all, or (N,)."""
        ways = self.directions.T[index]
        lengths = torch.as_tensor(magnitude, device=z.device, dtype=z.dtype)
        return z + lengths.unsqueeze(-1) * ways

    @torch.no_grad()
    def traverse(
        self, z: Tensor, index: int, magnitudes: Sequence[float], labels: Tensor | None = None
    ) -> Tensor:
        """Images (N, len(magnitudes), C, H, W) along a direction from z (N, latent_dim)."""
        images = [self.generate(self.shift(z, index, e), labels) for e in magnitudes]
        return torch.stack(images, 1)

    def _reconstructed(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """R's logits and shifts, and the true index and magnitude."""
        z, labels = self.draw(n)
        index = torch.randint(self.k, (n,)).to(z.device)
        magnitude = shift_magnitudes(n, self.max_shift, self.min_shift).to(z)
        with torch.no_grad():
            first = self.generate(z, labels)
        second = self.generate(self.shift(z, index, magnitude), labels)
        logits, shifts = self.reconstructor(first, second)
        return logits, shifts, index, magnitude


def _reconstructor(kind: Any, channels: int, k: int, width: int | None) -> nn.Module:
    if isinstance(kind, nn.Module):
        return kind
    kinds = {"lenet": (LeNetReconstructor, 2), "resnet18": (ResNetReconstructor, 64)}
    if kind not in kinds:
        raise ValueError(f"reconstructor must be 'lenet', 'resnet18' or a module, got {kind!r}")
    make, usual = kinds[kind]
    return make(channels, k, usual if width is None else width)
