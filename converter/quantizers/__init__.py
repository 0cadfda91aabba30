"""Weight quantizers: float32 matrices to a few levels and codes. One method a file."""

from deepchip.converter.quantizers.levels import Levels
from deepchip.converter.quantizers.specification import Specification, parse

__all__ = ["Levels", "Specification", "parse"]
