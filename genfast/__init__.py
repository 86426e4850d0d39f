"""genfast: fast, exact operations and reference models for deep generative modelling in PyTorch."""

from genfast import _C
from genfast import models as models
from genfast import nn as nn
from genfast import ops as ops
from genfast import reference as reference
from genfast import sampling as sampling

__version__ = _C.build_info()["version"]
