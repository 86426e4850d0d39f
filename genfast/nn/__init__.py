"""Modules whose state_dict is that of the plain PyTorch module they replace."""

from genfast.nn.gated import GatedActivation as GatedActivation
from genfast.nn.lstm_scan import DiagonalBiLSTM as DiagonalBiLSTM
from genfast.nn.lstm_scan import DiagonalLSTM as DiagonalLSTM
from genfast.nn.lstm_scan import RowLSTM as RowLSTM
from genfast.nn.masked_conv import GatedMaskedConv2d as GatedMaskedConv2d
from genfast.nn.masked_conv import MaskedConv2d as MaskedConv2d
from genfast.nn.masked_conv import ShiftedConv2d as ShiftedConv2d
from genfast.nn.masked_conv import ShiftedConvTranspose2d as ShiftedConvTranspose2d
from genfast.nn.weight_norm import WeightNorm as WeightNorm
from genfast.nn.weight_norm import WeightNormConv2d as WeightNormConv2d
from genfast.nn.weight_norm import WeightNormConvTranspose2d as WeightNormConvTranspose2d
from genfast.nn.weight_norm import initialised_from_data as initialised_from_data
