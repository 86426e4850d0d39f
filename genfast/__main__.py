"""`python -m genfast` is the command `genfast`."""

from __future__ import annotations

import sys

from genfast.cli import main

sys.exit(main())
