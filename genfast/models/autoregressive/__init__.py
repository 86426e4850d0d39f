"""Models that factorise an image pixel by pixel."""

from genfast.models.autoregressive.base import AutoregressiveModel as AutoregressiveModel
from genfast.models.autoregressive.gated_pixelcnn import GatedPixelCNN as GatedPixelCNN
from genfast.models.autoregressive.pixel_rnn import PixelRNN as PixelRNN
from genfast.models.autoregressive.pixelcnn import PixelCNN as PixelCNN
from genfast.models.autoregressive.pixelcnn_pp import PixelCNNPP as PixelCNNPP
