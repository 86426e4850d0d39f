"""Models with a latent code: autoencoders and variational autoencoders."""

from genfast.models.latent.autoencoder import Autoencoder as Autoencoder
from genfast.models.latent.base import LatentVariableModel as LatentVariableModel
from genfast.models.latent.base import Posterior as Posterior
from genfast.models.latent.exemplar_cache import ExemplarCache as ExemplarCache
from genfast.models.latent.exemplar_vae import ExemplarVAE as ExemplarVAE
from genfast.models.latent.importance import Estimate as Estimate
from genfast.models.latent.vae import VAE as VAE
from genfast.models.latent.vamp_prior import VampPriorVAE as VampPriorVAE
