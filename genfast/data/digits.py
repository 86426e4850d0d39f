"""Handwritten digits that come with scikit-learn: 1797 images of 8x8 in 17 grey levels."""

from __future__ import annotations

from pathlib import Path

import torch

from genfast.data.assemble import Stored, array_part
from genfast.data.extras import require
from genfast.data.options import ImageOptions


def load_digits(data_dir: Path | None, options: ImageOptions) -> Stored:
    """The digits, split once and for all into 1199 train, 299 validation and 299 test images."""
    digits = require("sklearn.datasets").load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).to(torch.int64)
    part = array_part(images, labels, options, "digits", levels=17)
    return Stored("digits", "digits", {"train": part}, levels=17, num_classes=10)
