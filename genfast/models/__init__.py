"""Faithful reference models, one system a file.

`MODELS` maps the names that the command line knows to the classes.
"""

from genfast.models.autoregressive import GatedPixelCNN as GatedPixelCNN
from genfast.models.autoregressive import PixelCNN as PixelCNN

MODELS = {"gated-pixelcnn": GatedPixelCNN, "pixelcnn": PixelCNN}
