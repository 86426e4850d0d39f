"""Models of two players: a generator, and a discriminator that judges it."""

from genfast.models.adversarial.adversarial_autoencoder import (
    AdversarialAutoencoder as AdversarialAutoencoder,
)
from genfast.models.adversarial.base import AdversarialModel as AdversarialModel
from genfast.models.adversarial.conditional_gan import ConditionalGAN as ConditionalGAN
from genfast.models.adversarial.cyclegan import CycleGAN as CycleGAN
from genfast.models.adversarial.dcgan import DCGAN as DCGAN
from genfast.models.adversarial.gan import GAN as GAN
from genfast.models.adversarial.gradient_penalty import gradient_penalty as gradient_penalty
from genfast.models.adversarial.latent_directions import LatentDirections as LatentDirections
from genfast.models.adversarial.pix2pix import Pix2Pix as Pix2Pix
from genfast.models.adversarial.translation import TranslationModel as TranslationModel
from genfast.models.adversarial.wgan import WGAN as WGAN
