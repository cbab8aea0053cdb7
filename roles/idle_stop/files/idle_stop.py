#!/usr/bin/python3
"""Look once whether this host is idle and act on it; ``--explain`` tells the last decision."""

import runpy

runpy.run_module("lab_idle", run_name="__main__", alter_sys=True)
