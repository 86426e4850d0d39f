"""The folder that `genfast directions` leaves: directions, figures and pictures of a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genfast.data.extras import require
from genfast.models.adversarial import AdversarialAutoencoder, LatentDirections
from genfast.models.adversarial.background import (
    background_direction,
    foreground_mask,
    replace_background,
)
from genfast.models.adversarial.noise_gan import NoiseGAN
from genfast.training.directions import save_traversals
from genfast.training.files import write_atomically, write_json
from genfast.training.images import from_unit, image_grid, save_png

DIRECTIONS, FIGURES = "directions.safetensors", "figures.json"
TRAVERSALS, BACKGROUND = "traversals.png", "background.png"
_SHOWN = 8


class _ScaledDecoder(nn.Module):
    """The decoder of an adversarial autoencoder as a generator of N(0, 1)."""

    def __init__(self, model: AdversarialAutoencoder) -> None:
        super().__init__()
        self.decoder, self.deviation = model.decoder, model.prior_deviation

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.decoder(z * self.deviation)
        return images


def directions_of(model: nn.Module, k: int, **settings: Any) -> LatentDirections:
    """`LatentDirections` of a model of this package: of its generator, or of its decoder.

    Raises:
        ValueError: the model makes no images from noise, or a setting is out of its range.

    >>> from genfast.models import GAN
    >>> directions_of(GAN((1, 8, 8), 17, hidden=8, latent_dim=5), 3).directions.shape
    torch.Size([5, 3])
    """
    if isinstance(model, NoiseGAN):
        generator: nn.Module = model.generator
        settings = {**settings, "num_classes": model.num_classes, "prior": model.prior}
    elif isinstance(model, AdversarialAutoencoder):
        generator = _ScaledDecoder(model)
    else:
        raise ValueError(f"model: {type(model).__name__} makes no images from noise")
    return LatentDirections(generator, model.latent_dim, k, channels=model.image_shape[0], **settings)


def save_directions(
    folder: Path, model: LatentDirections, losses: list[float], seed: int
) -> dict[str, Any]:
    """Write the four files, each whole or not at all -> the figures.

    - directions.safetensors: `directions` (latent_dim, k), and the state of the reconstructor;
    - figures.json: the last losses, RCA, the scores of the background (k, 2), and its direction;
    - traversals.png: a row a direction, a column a magnitude;
    - background.png: images; the same moved along the direction of the background; masks; the same
      before the backgrounds of one another. With classes, all of one class.

    Raises:
        OSError: a file cannot be written.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        accuracy = model.accuracy()
    background = background_direction(model, seed=seed, magnitude=model.max_shift)
    tensors = {
        "directions": model.directions,
        **{f"reconstructor.{name}": value for name, value in model.reconstructor.state_dict().items()},
    }
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(folder / DIRECTIONS, require("safetensors.torch").save(stored))
    figures = {
        "k": model.k,
        "parametrization": model.parametrization,
        "steps": len(losses),
        "loss": sum(losses[-100:]) / max(1, len(losses[-100:])),
        "rca": accuracy,
        "background_direction": background.index,
        "background_magnitude": background.magnitude,
        "background_scores": background.scores.tolist(),
    }
    write_json(folder / FIGURES, figures)
    save_traversals(folder / TRAVERSALS, model, seed=seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        z, labels = model.draw(_SHOWN)
    if labels is not None:
        labels = torch.zeros_like(labels)
    images = model.generate(z, labels).detach()
    moved = model.traverse(z, background.index, [background.magnitude], labels)[:, 0]
    masks = foreground_mask(model, background, z, labels)
    placed = replace_background(images, masks, images.roll(1, 0))
    shown = [images, moved, 2.0 * masks.unsqueeze(1).expand_as(images) - 1, placed]
    rows = (torch.cat(shown).float().cpu() + 1) / 2
    save_png(folder / BACKGROUND, image_grid(from_unit(rows, 256), 256, _SHOWN))
    return figures
