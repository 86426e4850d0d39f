"""Exhibits of the models that have exact likelihoods: trained on handwritten digits, and summed up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genfast.gallery.digits import COLUMNS, draw, held_out, train
from genfast.gallery.exhibit import Exhibit, Finding
from genfast.models import MODELS
from genfast.training.evaluate import evaluate, independent_pixels
from genfast.training.images import to_unit

_ROWS = 4
#: How far from 1 the probabilities of all images may sum up, in fp64.
_TOLERANCE = 1e-9
#: All images of this shape and number of levels are counted.
_TINY_SHAPE, _TINY_LEVELS = (1, 3, 3), 2


@dataclass(frozen=True)
class _Autoregressive:
    """`settings` for the digits, `tiny` for the images that can all be counted."""

    model: str
    settings: Mapping[str, Any]
    tiny: Mapping[str, Any]
    minutes: float = 0.6

    def __call__(self, folder: Path) -> Finding:
        total = self._total_probability()
        settings = {
            "model": {"name": self.model, **self.settings},
            **{"epochs": 60, "max_minutes": self.minutes, "batch_size": 32, "lr": 2e-3},
        }
        trainer = train(folder, settings)
        model, data = trainer.evaluated.eval(), trainer.data
        test = evaluate(model, data.test).bits_per_dim
        plain = independent_pixels(data.train, data.test, data.levels).bits_per_dim
        drawn = to_unit(model.sample(COLUMNS * (_ROWS - 1), seed=1), data.levels)
        draw(folder, held_out(trainer), drawn)
        height, width = _TINY_SHAPE[1:]
        return Finding(
            figure=f"{test:.3f} bits/dim on test digits; independent pixels {plain:.3f}",
            check=f"the probabilities of all {_TINY_LEVELS ** (height * width)} binary images of "
            f"{height}x{width} sum to {total:.12f}, and the trained model needs fewer bits than "
            "independent pixels",
            passed=abs(total - 1) <= _TOLERANCE and test < plain,
            caption="First row: real test images of 8x8 pixels. Below: samples, not selected.",
        )

    def _total_probability(self) -> float:
        """Of all tiny images, under a model of this kind with random weights."""
        pixels = _TINY_SHAPE[1] * _TINY_SHAPE[2]
        values = list(itertools.product(range(_TINY_LEVELS), repeat=pixels))
        images = torch.tensor(values).view(-1, *_TINY_SHAPE)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = MODELS[self.model](_TINY_SHAPE, _TINY_LEVELS, **self.tiny).double().eval()
        with torch.no_grad():
            return float(model.log_prob(images).exp().sum())


PIXEL_RNN_ROW = Exhibit(
    "pixel-rnn-row",
    "PixelRNN, Row LSTM",
    "van den Oord, Kalchbrenner, Kavukcuoglu 2016, section 3.1",
    _Autoregressive(
        "pixel-rnn",
        {"variant": "row", "hidden": 24, "layers": 3},
        {"variant": "row", "hidden": 4, "layers": 2},
    ),
)
PIXEL_RNN_DIAGONAL = Exhibit(
    "pixel-rnn-diagonal",
    "PixelRNN, Diagonal BiLSTM",
    "van den Oord, Kalchbrenner, Kavukcuoglu 2016, section 3.2",
    _Autoregressive(
        "pixel-rnn",
        {"variant": "diagonal", "hidden": 24, "layers": 3},
        {"variant": "diagonal", "hidden": 4, "layers": 2},
    ),
)
PIXELCNN = Exhibit(
    "pixelcnn",
    "PixelCNN",
    "van den Oord, Kalchbrenner, Kavukcuoglu 2016, section 3.3",
    _Autoregressive("pixelcnn", {"channels": 48, "layers": 5}, {"channels": 8, "layers": 2}),
)
GATED_PIXELCNN = Exhibit(
    "gated-pixelcnn",
    "Gated PixelCNN",
    "van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders",
    _Autoregressive("gated-pixelcnn", {"channels": 32, "layers": 6}, {"channels": 6, "layers": 2}),
)
PIXELCNN_PP = Exhibit(
    "pixelcnn-pp",
    "PixelCNN++",
    "Salimans, Karpathy, Chen, Kingma 2017",
    _Autoregressive(
        "pixelcnn-pp",
        {"filters": 20, "resnets": 1, "resolutions": 2, "mixtures": 5, "dropout": 0.0},
        {"filters": 4, "resnets": 1, "resolutions": 2, "mixtures": 2, "dropout": 0.0},
    ),
)
