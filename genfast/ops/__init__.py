"""The fast functions: checks, autograd and registration around the native kernels."""

from genfast.ops.gated import gated_activation as gated_activation
from genfast.ops.gaussian_kl import gaussian_kl as gaussian_kl
from genfast.ops.gaussian_mixture import gaussian_mixture_log_prob as gaussian_mixture_log_prob
from genfast.ops.logistic_mixture import logistic_mixture_log_prob as logistic_mixture_log_prob
from genfast.ops.logistic_mixture import logistic_mixture_sample as logistic_mixture_sample
from genfast.ops.lstm_scan import diagonal_lstm as diagonal_lstm
from genfast.ops.lstm_scan import row_lstm as row_lstm
from genfast.ops.masked_conv import gated_masked_conv2d as gated_masked_conv2d
from genfast.ops.masked_conv import masked_conv2d as masked_conv2d
from genfast.ops.masked_conv import shifted_conv2d as shifted_conv2d
from genfast.ops.masked_conv import shifted_conv_transpose2d as shifted_conv_transpose2d
from genfast.ops.rejection import rejection_accept as rejection_accept
from genfast.ops.rejection import rejection_compact as rejection_compact
