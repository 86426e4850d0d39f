"""Sampling: pixel programs, rejection by a discriminator, draws that depend on their key alone."""

from genfast.reference.draws import categorical as categorical
from genfast.reference.logistic_mixture import logistic_mixture_levels as logistic_mixture_levels
from genfast.sampling.builder import ProgramBuilder as ProgramBuilder
from genfast.sampling.calibration import LinearCalibration as LinearCalibration
from genfast.sampling.calibration import keep_training as keep_training
from genfast.sampling.calibration import with_head as with_head
from genfast.sampling.histogram import StreamingPercentile as StreamingPercentile
from genfast.sampling.incremental import PixelSampler as PixelSampler
from genfast.sampling.latents import normal_latents as normal_latents
from genfast.sampling.philox import philox4x32 as philox4x32
from genfast.sampling.philox import uniforms as uniforms
from genfast.sampling.processes import Ranks as Ranks
from genfast.sampling.program import Phase as Phase
from genfast.sampling.program import Program as Program
from genfast.sampling.program import Tap as Tap
from genfast.sampling.rejection import DiscriminatorRejectionSampler as DiscriminatorRejectionSampler
