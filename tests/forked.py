"""Processes that begin within milliseconds: forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context

# What torch and others import on the way to a first step.
IMPORTED = ("torch._dynamo", "sklearn.datasets", "safetensors.torch", "tomli_w", "tqdm")


def context() -> multiprocessing.context.ForkServerContext:
    """Of `multiprocessing`; its server lives as long as the tests."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["training_runs", *IMPORTED])
    return forkserver
