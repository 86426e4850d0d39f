"""Data sets of images as integer level tensors. Reads local files only; never uses the network."""

from __future__ import annotations

from genfast.data.images import DataError, ImageData, Split, quantise
from genfast.data.registry import DATASETS, load

__all__ = ["DATASETS", "DataError", "ImageData", "Split", "load", "quantise"]
