"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# The first call of a kernel compiles it, and machines of a build farm differ in speed: no deadline.
settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("default")
