"""Sampling pixel by pixel: pixel programs, and draws that depend on nothing but their key."""

from genfast.reference.draws import categorical as categorical
from genfast.reference.logistic_mixture import logistic_mixture_levels as logistic_mixture_levels
from genfast.sampling.builder import ProgramBuilder as ProgramBuilder
from genfast.sampling.incremental import PixelSampler as PixelSampler
from genfast.sampling.philox import philox4x32 as philox4x32
from genfast.sampling.philox import uniforms as uniforms
from genfast.sampling.program import Phase as Phase
from genfast.sampling.program import Program as Program
from genfast.sampling.program import Tap as Tap
