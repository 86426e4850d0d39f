"""The exhibits, in the order in which they hang."""

from __future__ import annotations

from genfast.gallery import (
    adversarial,
    autoregressive,
    closed_forms,
    codes,
    latent,
    rejection,
    translation,
)
from genfast.gallery.exhibit import Exhibit

EXHIBITS: tuple[Exhibit, ...] = (
    latent.AUTOENCODER,
    latent.VAE,
    adversarial.GAN,
    adversarial.DCGAN_EXHIBIT,
    adversarial.CONDITIONAL_GAN,
    translation.PIX2PIX,
    translation.CYCLEGAN,
    autoregressive.PIXEL_RNN_ROW,
    autoregressive.PIXEL_RNN_DIAGONAL,
    autoregressive.PIXELCNN,
    autoregressive.GATED_PIXELCNN,
    autoregressive.PIXELCNN_PP,
    latent.EXEMPLAR_VAE,
    latent.VAMP_PRIOR_VAE,
    rejection.REJECTION,
    codes.DIRECTIONS,
    adversarial.WGAN,
    codes.ADVERSARIAL_AUTOENCODER,
    closed_forms.DIVERGENCES,
    closed_forms.CYCLING,
)
