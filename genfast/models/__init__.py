"""Faithful reference models, one system a file.

`MODELS` maps the names that the command line knows to the classes.
"""

from genfast.models.autoregressive import GatedPixelCNN as GatedPixelCNN

MODELS = {"gated-pixelcnn": GatedPixelCNN}
