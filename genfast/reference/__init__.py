"""The same functions in plain PyTorch: the documentation of what is computed, and the oracle."""

from genfast.reference.gated import gated_activation as gated_activation
from genfast.reference.gated_pixelcnn import GatedPixelCNN as GatedPixelCNN
from genfast.reference.gaussian_mixture import gaussian_kl as gaussian_kl
from genfast.reference.gaussian_mixture import gaussian_mixture_log_prob as gaussian_mixture_log_prob
from genfast.reference.logistic_mixture import logistic_mixture_log_prob as logistic_mixture_log_prob
from genfast.reference.logistic_mixture import logistic_mixture_sample as logistic_mixture_sample
from genfast.reference.lstm_scan import diagonal_lstm as diagonal_lstm
from genfast.reference.lstm_scan import reorder_gates as reorder_gates
from genfast.reference.lstm_scan import row_lstm as row_lstm
from genfast.reference.masked_conv import causal_mask as causal_mask
from genfast.reference.masked_conv import gated_masked_conv2d as gated_masked_conv2d
from genfast.reference.masked_conv import masked_conv2d as masked_conv2d
from genfast.reference.masked_conv import shifted_conv2d as shifted_conv2d
from genfast.reference.masked_conv import shifted_conv_transpose2d as shifted_conv_transpose2d
from genfast.reference.pixel_rnn import PixelRNN as PixelRNN
from genfast.reference.pixelcnn import PixelCNN as PixelCNN
from genfast.reference.pixelcnn_pp import PixelCNNPP as PixelCNNPP
from genfast.reference.rejection import rejection_accept as rejection_accept
from genfast.reference.rejection import rejection_compact as rejection_compact
