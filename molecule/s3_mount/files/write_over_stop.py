"""Writes a file slowly while the mount is stopped: what is closed must be in the bucket."""

import subprocess
import time

with subprocess.Popen(["sleep", "300"], cwd="/s3") as shell:
    with open("/s3/slow", "wb") as file:  # noqa: PTH123
        file.write(b"x" * 1_000_000)
        file.flush()
        stop = subprocess.Popen(["systemctl", "stop", "lab-s3@s3"])
        time.sleep(3)
        file.write(b"y" * 1_000)
    status = stop.wait(60)
    shell.kill()
print("closed, stopped with", status)
