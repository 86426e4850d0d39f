"""Models of two players: a generator, and a discriminator that judges it."""

from genfast.models.adversarial.base import AdversarialModel as AdversarialModel
from genfast.models.adversarial.conditional_gan import ConditionalGAN as ConditionalGAN
from genfast.models.adversarial.dcgan import DCGAN as DCGAN
from genfast.models.adversarial.gan import GAN as GAN
from genfast.models.adversarial.gradient_penalty import gradient_penalty as gradient_penalty
from genfast.models.adversarial.wgan import WGAN as WGAN
