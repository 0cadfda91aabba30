"""What the CPU can do that kernels are compiled for."""

from __future__ import annotations

from typing import Any

from llvmlite.binding import get_host_cpu_features, get_process_triple
from numba.core import config

NEON = get_process_triple().startswith(("aarch64", "arm64"))
"""Whether registers have 16 bytes, and there are 32 of them."""


def has(feature: str) -> bool:
    """Say whether the CPU has a feature, by Numba's settings where these name a CPU."""
    settings: Any = config
    if settings.CPU_NAME or settings.CPU_FEATURES:
        return f"+{feature}" in (settings.CPU_FEATURES or "").split(",")
    return bool(get_host_cpu_features().get(feature))


AVX512 = has("avx512bw")
"""Whether registers have 64 bytes, there are 32 of them, and bits of three are joined at once."""
