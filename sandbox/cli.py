"""The commands of `python -m sandbox`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sandbox import preflight, process
from sandbox.account import environment
from sandbox.errors import SandboxError
from sandbox.model import Engine, Metadata
from sandbox.settings import Settings

USAGE = """The sandbox: an AWS on this machine, for the lab's playbooks and tests.

  up          start it unless it runs; prints the environment (eval "$(python -m sandbox up)")
  env         print that environment
  status      list what there is
  reset       remove everything and start again, empty
  down        stop it and remove everything
  image 13 12 build the hosts' images
  interrupt i-0123456789abcdef0 [120]
              take a Spot instance's capacity back: the notice now, the stop in so many seconds
  resume i-0123456789abcdef0
              start an interrupted Spot instance, as AWS does when there is room again
  serve       run the server in the foreground
"""
# What lab_image means unless it is set; the image of another release takes its minutes when
# somebody asks for it by `image`.
DEFAULT_RELEASE = "13"
COMMANDS = ("up", "env", "status", "reset", "down", "image", "interrupt", "resume", "serve")
# How many arguments those commands take that take any.
ARGUMENTS = {"image": range(10), "interrupt": range(1, 3), "resume": range(1, 2)}
NOTICE_S = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        usage="python -m sandbox COMMAND",
        description=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="see above")
    options = parser.parse_args(arguments)
    if len(options.arguments) not in ARGUMENTS.get(options.command, range(1)):
        parser.error(f"{options.command} takes not {len(options.arguments)} arguments; see --help")
    try:
        _run(options.command, options.arguments)
    except (SandboxError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _run(command: str, arguments: list[str]) -> None:
    settings = Settings.from_environment()
    if command == "image":
        _image(arguments)
    elif command in ("interrupt", "resume"):
        _interrupt(settings, command, arguments)
    elif command == "up":
        _up(settings)
    elif command == "env":
        _print_environment(settings)
    elif command == "status":
        _status(settings)
    elif command == "down":
        _down(settings, keep_key=False)
    elif command == "reset":
        preflight.check(os.environ)
        _down(settings, keep_key=True)
        _up(settings)
    elif command == "serve":
        _serve(settings)


def _up(settings: Settings) -> None:
    preflight.check(os.environ)
    _make_images([DEFAULT_RELEASE])
    process.start(settings)
    _print_environment(settings)


def _print_environment(settings: Settings) -> None:
    for name, value in environment(settings).items():
        print(f"export {name}={shlex.quote(value)}")


def _down(settings: Settings, *, keep_key: bool) -> None:
    preflight.check_machine()
    process.stop(settings)
    if settings.state_dir.exists():
        engine = _make_engine(settings)
        engine.destroy()
        engine.close()
    process.remove_state(settings, keep_key=keep_key)


def _make_engine(settings: Settings) -> Engine:
    from sandbox.engine import DockerEngine  # noqa: PLC0415  only here the Docker SDK is needed

    def no_metadata(instance_id: str) -> Metadata:
        raise KeyError(instance_id)

    return DockerEngine(settings, no_metadata)


def _serve(settings: Settings) -> None:
    from sandbox.engine import DockerEngine  # noqa: PLC0415
    from sandbox.server import serve  # noqa: PLC0415

    preflight.check(os.environ)
    serve(settings, DockerEngine)


def _interrupt(settings: Settings, command: str, arguments: list[str]) -> None:
    from sandbox import interruptions  # noqa: PLC0415  it needs moto

    if process.server_pid(settings) is None:
        raise SandboxError(f"slot {settings.slot} is not running: python -m sandbox up")
    what = interruptions.RESUME
    if command == "interrupt":
        seconds = float(arguments[1]) if len(arguments) > 1 else NOTICE_S
        what = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    interruptions.ask(settings, arguments[0], what)


def _image(releases: list[str]) -> None:
    preflight.check_machine()
    for reference in _make_images(releases):
        print(reference)


def _make_images(releases: Sequence[str]) -> list[str]:
    from sandbox.image import SUITES, ImageError, build  # noqa: PLC0415  it needs the Docker SDK

    try:
        return [build(release) for release in releases or SUITES]
    except ImageError as error:
        raise SandboxError(str(error)) from error


def _status(settings: Settings) -> None:
    from sandbox.report import status_table  # noqa: PLC0415

    pid = process.server_pid(settings)
    if pid is None:
        print(f"slot {settings.slot}: not running; start it with python -m sandbox up")
    else:
        print(f"slot {settings.slot}: process {pid} at {settings.endpoint_url}")
        print(status_table(settings))
