"""Handwritten digits that come with scikit-learn: 1797 images of 8x8 in 17 grey levels."""

from __future__ import annotations

from pathlib import Path

import torch

from genfast.data.extras import require
from genfast.data.images import ImageData, Split, quantise, three_way


def load_digits(data_dir: Path | None = None, levels: int | None = None) -> ImageData:
    """The digits, split once and for all into 1199 train, 299 validation and 299 test images."""
    digits = require("sklearn.datasets").load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    split = Split(quantise(images, 17, levels), torch.from_numpy(digits.target).to(torch.int64))
    return ImageData("digits", levels or 17, *three_way(split), num_classes=10)
