"""Whole models of the modules that `genfast.swap` is tried on."""

from __future__ import annotations

import swap_modules as plain
import swap_ports as ports
import torch
from swap_modules import raster
from torch import nn


def masked_stack():
    return nn.Sequential(
        plain.InPlaceMasked(raster(7, 7, False), 1, 8),
        nn.ReLU(),
        plain.ProductMasked(raster(3, 3, True), 8, 8, bias=False),
        plain.PlainAttributeMask(8, 12, (1, 5), padding=(0, 2)),
        plain.SliceGate(),
    )


#: Model, input sizes, number of modules that must be replaced.
MODELS = {
    "masked": (masked_stack, [(2, 1, 6, 5)], 4),
    "two stacks": (plain.TwoStacksNet, [(2, 1, 6, 5)], 8),
    "port, halves aligned": (lambda: ports.PortNet(6), [(2, 3, 6, 5), "labels"], 20),
    "port, halves misaligned": (lambda: ports.PortNet(4), [(2, 3, 6, 5), "labels"], 20),
    "separable": (lambda: ports.SeparableNet(4, 2), [(2, 1, 6, 5)], 3),
    "helper": (lambda: plain.WithHelper(4), [(2, 4, 3, 3), (2, 8, 1, 1)], 1),
    "pixelcnn++": (ports.PortPP, [(2, 3, 8, 4)], 46),
}


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    model, sizes, count = MODELS[name]
    inputs = [torch.tensor([3, 1]) if s == "labels" else torch.randn(s, dtype=dtype) for s in sizes]
    return model().to(dtype).eval(), inputs, count
