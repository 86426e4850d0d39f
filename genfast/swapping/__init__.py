"""People's own modules replaced by genfast's; exported as `genfast.swap` and `genfast.verify`."""

from genfast.swapping.report import SwapReport as SwapReport
from genfast.swapping.swap import swap as swap
from genfast.swapping.swap import unswap as unswap
from genfast.swapping.verification import Verification as Verification
from genfast.swapping.verify import verify as verify
