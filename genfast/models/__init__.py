"""Faithful reference models, one system a file.

`MODELS` maps the names that the command line knows to the classes.
"""

from typing import Any as _Any

from genfast.models.adversarial import DCGAN as DCGAN
from genfast.models.adversarial import GAN as GAN
from genfast.models.adversarial import WGAN as WGAN
from genfast.models.adversarial import AdversarialAutoencoder as AdversarialAutoencoder
from genfast.models.adversarial import ConditionalGAN as ConditionalGAN
from genfast.models.adversarial import CycleGAN as CycleGAN
from genfast.models.adversarial import LatentDirections as LatentDirections
from genfast.models.adversarial import Pix2Pix as Pix2Pix
from genfast.models.autoregressive import GatedPixelCNN as GatedPixelCNN
from genfast.models.autoregressive import PixelCNN as PixelCNN
from genfast.models.autoregressive import PixelCNNPP as PixelCNNPP
from genfast.models.autoregressive import PixelRNN as PixelRNN
from genfast.models.latent import VAE as VAE
from genfast.models.latent import Autoencoder as Autoencoder
from genfast.models.latent import ExemplarVAE as ExemplarVAE
from genfast.models.latent import VampPriorVAE as VampPriorVAE

MODELS: dict[str, _Any] = {
    "adversarial-autoencoder": AdversarialAutoencoder,
    "autoencoder": Autoencoder,
    "conditional-gan": ConditionalGAN,
    "cyclegan": CycleGAN,
    "dcgan": DCGAN,
    "exemplar-vae": ExemplarVAE,
    "gan": GAN,
    "wgan": WGAN,
    "gated-pixelcnn": GatedPixelCNN,
    "pix2pix": Pix2Pix,
    "pixel-rnn": PixelRNN,
    "pixelcnn": PixelCNN,
    "pixelcnn-pp": PixelCNNPP,
    "vae": VAE,
    "vamp-prior-vae": VampPriorVAE,
}
