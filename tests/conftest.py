"""Settings that all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from deepchip.converter.readers import limits
from tests.checks import patient

# The first call of a kernel compiles it, and machines of a build farm differ in speed: no deadline.
settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("default")

limits.SECONDS = patient(limits.SECONDS)

# A shell that starts the tests in the background has them ignore Control-C, and so would every
# process that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
