"""genfast: fast, exact operations and reference models for deep generative modelling in PyTorch."""

from genfast import ops as ops
from genfast import reference as reference
