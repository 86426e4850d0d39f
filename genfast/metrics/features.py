"""Features of images: of a small classifier trained here, or of an Inception network from a file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: (N, D) features of images (N, C, H, W) in [0, 1].
Features = Callable[[Tensor], Tensor]


class FeatureClassifier(nn.Module):
    """A small convolutional classifier; its last hidden layer gives the features.

    Args:
        channels: of the images, (N, channels, H, W) in [0, 1], H and W at least 4.
        num_classes: K.
        width: features are 4 width numbers.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        maps = [channels, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for number in range(3):
            convolution = nn.Conv2d(maps[number], maps[number + 1], 3, 2 if number else 1, 1)
            layers += [convolution, nn.BatchNorm2d(maps[number + 1]), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, 4 * width), nn.ReLU()
        )
        self.classify = nn.Linear(4 * width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 4 width)."""
        features: Tensor = self.layers(2 * x - 1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.classify(self.features(x))
        return logits


def train_feature_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    lr: float = 1e-3,
    width: int = 16,
    seed: int = 0,
) -> FeatureClassifier:
    """Train one by Adam -> in evaluation mode. torch's generator is left alone.

    Args:
        images: (N, C, H, W) in [0, 1].
        labels: (N,) int64 from 0.
        epochs, batch_size, lr, width: of the training.
        seed: of weights and order.

    Raises:
        ValueError: images and labels that do not fit.

    >>> model = train_feature_classifier(torch.rand(8, 1, 8, 8), torch.arange(8) % 2, epochs=1)
    >>> model.features(torch.rand(3, 1, 8, 8)).shape
    torch.Size([3, 64])
    """
    if images.ndim != 4 or labels.shape != images.shape[:1] or len(images) < 2:
        shapes = tuple(images.shape), tuple(labels.shape)
        raise ValueError(f"images and labels must be (N, C, H, W) and (N,), N >= 2, got {shapes}")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = FeatureClassifier(images.shape[1], int(labels.max()) + 1, width)
        optimiser = torch.optim.Adam(model.parameters(), lr)
        steps = -(-len(images) // batch_size)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, epochs * steps)
        for _ in range(epochs):
            # In parts of equal size (give or take one), for the batch statistics' sake.
            for index in torch.tensor_split(torch.randperm(len(images)), steps):
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(model(images[index]), labels[index]).backward()
                optimiser.step()
                schedule.step()
    return model.eval()


def inception_features(path: str | Path) -> Features:
    """The pooled 2048 features of torchvision's `inception_v3` with the weights in a file.

    Nothing in the file is executed: it holds tensors alone, as safetensors or as a state_dict that
    `torch.load(weights_only=True)` reads; the network is torchvision's own code, which has to be
    installed. With its published ImageNet weights this is close to, but not, the network of the FID of
    the papers, which is TensorFlow's of 2015 with other pooling: say so with every figure. Images are
    resized to 299x299 (bilinear, antialiased), grey ones repeated to three channels, and normalised as
    ImageNet's.

    Args:
        path: of the weights of `torchvision.models.inception_v3`.

    Raises:
        ValueError: the file holds something else.
        ModuleNotFoundError: torchvision is not installed.
        OSError: the file cannot be read.
    """
    weights = _read_weights(Path(path))
    try:
        models: Any = importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "inception_features needs torchvision: pip install torchvision"
        ) from error
    network: nn.Module = models.inception_v3(weights=None, init_weights=False)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of torchvision's inception_v3 ({error})") from error
    network.fc = nn.Identity()
    network.eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        large = F.interpolate(x.expand(-1, 3, -1, -1), (299, 299), mode="bilinear", antialias=True)
        outputs: Tensor = network((large - mean) / deviation)
        return outputs

    return features


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            loaded: dict[str, Tensor] = importlib.import_module("safetensors.torch").load_file(path)
            return loaded
        except importlib.import_module("safetensors").SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever the unpickler refuses
        raise ValueError(f"{path}: not a state_dict of tensors alone ({error})") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{path}: must be a state_dict, a mapping of names to tensors")
    return weights
