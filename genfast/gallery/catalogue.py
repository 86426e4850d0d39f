"""The exhibits, in the order in which they hang."""

from __future__ import annotations

from genfast.gallery import autoregressive, closed_forms
from genfast.gallery.exhibit import Exhibit

EXHIBITS: tuple[Exhibit, ...] = (
    autoregressive.PIXEL_RNN_ROW,
    autoregressive.PIXEL_RNN_DIAGONAL,
    autoregressive.PIXELCNN,
    autoregressive.GATED_PIXELCNN,
    autoregressive.PIXELCNN_PP,
    closed_forms.DIVERGENCES,
)
