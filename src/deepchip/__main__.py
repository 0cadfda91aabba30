"""`python -m deepchip` is the command `deepchip`."""

import sys

from .cli import main

sys.exit(main())
