"""The exhibits, in the order in which they hang."""

from __future__ import annotations

from genfast.gallery import adversarial, autoregressive, closed_forms
from genfast.gallery.exhibit import Exhibit

EXHIBITS: tuple[Exhibit, ...] = (
    adversarial.GAN,
    adversarial.DCGAN_EXHIBIT,
    adversarial.CONDITIONAL_GAN,
    autoregressive.PIXEL_RNN_ROW,
    autoregressive.PIXEL_RNN_DIAGONAL,
    autoregressive.PIXELCNN,
    autoregressive.GATED_PIXELCNN,
    autoregressive.PIXELCNN_PP,
    adversarial.WGAN,
    closed_forms.DIVERGENCES,
)
