"""A classifier with and without images that an Exemplar VAE generates around its training images.

Source: Norouzi, Fleet and Norouzi, "Exemplar VAE" (2020), section 5.3, and its reference code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from genfast.data import ImageData, Split
from genfast.training.images import from_unit, to_unit
from genfast.training.turns import image_bar


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is trained; all but `epochs` as published (which has 100, in fp64).

    Two hidden layers of ReLUs; SGD whose rate falls linearly to a hundredth, epoch by epoch. The loss is
    `real_weight` * CE(real) + (1 - `real_weight`) * CE(generated), one new image for each real one.
    """

    epochs: int = 5
    hidden: int = 1024
    batch_size: int = 100
    lr: float = 0.1
    momentum: float = 0.9
    label_smoothing: float = 0.1
    real_weight: float = 0.4
    seed: int = 0


def classifier_error(model: Any, data: ImageData, config: ClassifierConfig, *, augment: bool) -> float:
    """The share of test images that a classifier trained on the training images gets wrong.

    It sees the images in all the levels of `data`: the published one sees grey images, although the
    model is of binarised ones. With `augment` it also sees `model.generate` of each image, in these
    levels and anew in each epoch; the order of images and the first weights are the same with and
    without.

    Raises:
        ValueError: the data have no labels, or the model generates nothing from images.
    """
    if data.train.labels is None or data.test.labels is None:
        raise ValueError(f"{data.name}: has no labels to learn")
    if augment and not hasattr(model, "generate"):
        raise ValueError(f"model: {type(model).__name__} generates no images from images")
    torch.manual_seed(config.seed)
    classifier = _perceptron(model.image_shape, config.hidden, data.num_classes)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=config.lr, momentum=config.momentum)
    loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    per_epoch = -(-len(data.train) // config.batch_size)
    steps = per_epoch * config.epochs
    with image_bar(len(data.train) * config.epochs, "training a classifier", True) as bar:
        for step in range(steps):
            epoch, position = divmod(step, per_epoch)
            if position == 0:
                order = np.random.default_rng([config.seed, epoch]).permutation(len(data.train))
                parts = np.array_split(order, per_epoch)
            index = torch.from_numpy(parts[position])
            images, labels = data.batch("train", index, epoch=epoch, seed=config.seed)
            x = to_unit(images, data.levels)
            total = loss(classifier(x), labels)
            if augment:
                generated = to_unit(from_unit(model.generate(x), data.levels), data.levels)
                total = config.real_weight * total + (1 - config.real_weight) * loss(
                    classifier(generated), labels
                )
            for group in optimiser.param_groups:
                group["lr"] = config.lr * (1 - 0.99 * epoch / config.epochs)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            bar.update(len(x))
    return _error(classifier, data.test, data.levels)


def compare_augmentation(model: Any, data: ImageData, config: ClassifierConfig) -> dict[str, Any]:
    """The errors with and without generated images, and the settings, as JSON values."""
    errors = {
        name: classifier_error(model, data, config, augment=augment)
        for name, augment in (("error", False), ("error_augmented", True))
    }
    return {**errors, "test_images": len(data.test), "settings": asdict(config)}


@torch.no_grad()
def _error(classifier: nn.Module, split: Split, levels: int) -> float:
    assert split.labels is not None
    wrong = 0
    for images, labels in zip(split.images.split(1000), split.labels.split(1000), strict=True):
        wrong += int((classifier(to_unit(images, levels)).argmax(1) != labels).sum())
    return wrong / len(split)


def _perceptron(image_shape: tuple[int, int, int], hidden: int, classes: int) -> nn.Module:
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (hidden, hidden):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def describe(errors: dict[str, Any]) -> str:
    """In words."""
    count = errors["test_images"]
    plain, augmented = (100 * errors[name] for name in ("error", "error_augmented"))
    return (
        f"classifier, {errors['settings']['epochs']} epochs, {count} test images: "
        f"{plain:.2f} % wrong, with generated images {augmented:.2f} %"
    )
