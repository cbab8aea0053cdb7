#!/usr/bin/python3 -B
"""`lab keep 2h`, `lab why`, `lab idle off|on`, `lab submit train.py`."""

import sys

sys.path.insert(0, "/usr/local/lib/lab")

from lab_idle.command import main

sys.exit(main())
