"""The server process of one sandbox: moto, the engine, and what keeps them in step and on disk."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox import patches
from sandbox.errors import SandboxError
from sandbox.model import Engine, MetadataSource
from sandbox.settings import Settings

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
WAIT_AFTER_FAILURE_S = 10.0

MakeEngine = Callable[[Settings, MetadataSource], Engine]


def serve(settings: Settings, make_engine: MakeEngine) -> None:
    """Run the sandbox of a slot until SIGTERM. Raises SandboxError if it cannot start."""
    _prepare_process(settings)
    running = build(settings, make_engine)
    from moto.moto_server.werkzeug_app import MotoRequestHandler  # noqa: PLC0415  see build()
    from werkzeug.serving import make_server  # noqa: PLC0415

    class Handler(MotoRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log nothing: s3fs alone makes thousands of requests."""

    running.catch_up()
    try:
        http = make_server(
            "127.0.0.1",
            settings.port,
            running.application,
            threaded=True,
            request_handler=Handler,
        )
    except SystemExit as error:  # werkzeug's way to say that the port is taken
        raise SandboxError(f"port {settings.port} of 127.0.0.1 cannot be bound") from error
    for work in (running.state.keep_saving, running.watch):
        threading.Thread(target=work, daemon=True).start()

    def stop(_signal: int, _frame: Any) -> None:
        threading.Thread(target=http.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("Serving at %s", settings.endpoint_url)
    http.serve_forever()
    with running.reconciler.lock:
        running.state.save()
        running.reconciler.engine.close()
    log.info("Stopped")
    logging.shutdown()
    os._exit(0)  # moto's destructors would run for every object


class Running:
    """The parts of a running sandbox."""

    def __init__(self, application: Any, reconciler: Any, state: Any) -> None:
        self.application = application
        self.reconciler = reconciler
        self.state = state

    def catch_up(self) -> None:
        """Bring the machines in step with the state that was loaded."""
        try:
            self.reconciler.step()
        except Exception:
            log.exception("The machines are not in step yet; trying again")

    def watch(self) -> None:
        """Notice machines that switch themselves off, for ever; the body of a thread."""
        while True:
            time.sleep(WATCH_EVERY_S)
            try:
                follow = self.reconciler
                asked = self.state.path.parent / "interruptions"
                followed = (
                    follow.follow_power_off(),
                    follow.follow_schedules(),
                    follow.follow_interruptions(asked),
                )
                if any(followed):
                    self.state.save()
                self.reconciler.step()
            except Exception:
                log.exception("The machines are not in step; trying again")
                time.sleep(WAIT_AFTER_FAILURE_S)


def build(settings: Settings, make_engine: MakeEngine) -> Running:
    """Patch moto, load the state and put the parts together. Raises SandboxError."""
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    patches.apply_all(settings)
    # These import moto, which must see the line above.
    from sandbox.account import ensure_admin  # noqa: PLC0415
    from sandbox.application import Application  # noqa: PLC0415
    from sandbox.metadata import metadata_of  # noqa: PLC0415
    from sandbox.patches import console  # noqa: PLC0415
    from sandbox.reconciler import Reconciler, Stored  # noqa: PLC0415
    from sandbox.seed import Seeder  # noqa: PLC0415
    from sandbox.state import State  # noqa: PLC0415

    state = State(settings.state_dir)
    try:
        state.load()
    except Exception as error:
        raise SandboxError(
            f"{state.path} cannot be read ({error!r}): `python -m sandbox reset` starts anew"
        ) from error
    ensure_admin(settings)
    stored = state.extra.setdefault("stored", Stored())
    engine = make_engine(settings, functools.partial(metadata_of, keep=state.save))
    console.read_from(engine.console_output)
    reconciler = Reconciler(engine, stored)
    seeder = Seeder(settings)
    return Running(Application(settings, reconciler, state, seeder.seed), reconciler, state)


def _prepare_process(settings: Settings) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # One descriptor or two for each forwarded connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _take_lock(settings)


def _take_lock(settings: Settings) -> None:
    """Be the only server of this slot; the lock goes with the process."""
    descriptor = os.open(settings.state_dir / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SandboxError(f"slot {settings.slot} is served by another process") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
