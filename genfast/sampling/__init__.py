"""Random draws that depend on nothing but their key."""

from genfast.sampling.categorical import categorical as categorical
from genfast.sampling.philox import philox4x32 as philox4x32
from genfast.sampling.philox import uniforms as uniforms
