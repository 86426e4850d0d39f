"""Models of two players: a generator, and a discriminator that judges it."""

from genfast.models.adversarial.base import AdversarialModel as AdversarialModel
from genfast.models.adversarial.dcgan import DCGAN as DCGAN
from genfast.models.adversarial.gan import GAN as GAN
