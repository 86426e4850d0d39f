"""Data sets of images as integer level tensors. Reads local files only; never uses the network."""

from __future__ import annotations

from genfast.data.domains import DomainData, load_domains
from genfast.data.errors import DataError
from genfast.data.images import ImageData, quantise
from genfast.data.options import ImageOptions
from genfast.data.paired import PairedData, UnpairedData, load_paired, load_unpaired
from genfast.data.registry import DATASETS, load
from genfast.data.splits import Split, hold_out, three_way

__all__ = [
    "DATASETS",
    "DataError",
    "DomainData",
    "ImageData",
    "ImageOptions",
    "PairedData",
    "Split",
    "UnpairedData",
    "hold_out",
    "load",
    "load_domains",
    "load_paired",
    "load_unpaired",
    "quantise",
    "three_way",
]
