"""Entry of ``python3 -m lab_idle``."""

import sys

from .app import main

sys.exit(main())
