#!/usr/bin/python3 -B
"""Watches for the notice that AWS takes the Spot capacity back (lab-spot-notice.service)."""

import functools
import json
from pathlib import Path

import before_stop
from lab_idle import spot


def warn(text: str) -> None:
    """Tell every terminal."""
    before_stop.run(["wall", text], 5, "wall")


def main() -> None:
    """Watch for ever."""
    state = Path(json.loads(before_stop.CONFIG.read_text())["state_file"]).parent
    stopped = state / "unmounted.json"

    def signalled() -> list[spot.Process]:
        return spot.trainings(spot.processes(), spot.handles_usr1)

    spot.watch(
        spot.Steps(
            warn=warn,
            signalled=signalled,
            hooks=functools.partial(before_stop.hooks, before_stop.HOOKS),
            unmount=functools.partial(before_stop.unmount, stopped),
            again=functools.partial(before_stop.again, stopped),
            ran=state / before_stop.RAN,
            say=before_stop.say,
        )
    )


if __name__ == "__main__":
    main()
