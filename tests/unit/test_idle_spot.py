"""The two minutes before AWS takes Spot capacity back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from roles.idle_stop.files import before_stop
from roles.idle_stop.files.lab_idle import spot
from roles.idle_stop.files.lab_idle.signals import Process
from roles.idle_stop.files.lab_idle.spot import Notice, Steps

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Ended(Exception):  # noqa: N818 - it ends an endless loop
    """The test has seen enough."""


class Host:
    """Steps that note when they were done, and a metadata service that tells what it is told to."""

    def __init__(self, folder: Path, told: list[Notice | Exception | None]) -> None:
        self.did: list[str] = []
        self.told = told
        self.time = NOW
        self.hooks_until = self.unmount_seconds = 0.0
        self.ran = folder / "lab" / before_stop.RAN

    def signalled(self) -> list[Process]:
        self.did.append("signal")
        return []

    def steps(self) -> Steps:
        return Steps(
            warn=lambda _text: self.did.append("warn"),
            signalled=self.signalled,
            hooks=self.hooks,
            unmount=self.unmount,
            again=lambda: self.did.append("again"),
            ran=self.ran,
            say=lambda text: self.did.append(f"say {text}"),
        )

    def hooks(self, until: float) -> None:
        self.did.append("hooks")
        self.hooks_until = until - time.monotonic()

    def unmount(self, seconds: float) -> bool:
        self.did.append("unmount")
        self.unmount_seconds = seconds
        return True

    def ask(self) -> Notice | None:
        if not self.told:
            raise Ended
        told = self.told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def watch(self) -> list[str]:
        def sleep(seconds: float) -> None:
            self.time += timedelta(seconds=seconds)

        with pytest.raises(Ended):
            spot.watch(self.steps(), self.ask, sleep, lambda: self.time)
        return [did for did in self.did if not did.startswith("say")]


def notice(seconds: float = 120) -> Notice:
    return Notice("stop", NOW + timedelta(seconds=seconds))


def test_a_notice_is_acted_on_once_in_order_and_in_time(tmp_path: Path) -> None:
    host = Host(tmp_path, [None, notice(), notice(), notice()])
    assert host.watch() == ["signal", "warn", "hooks", "unmount"]
    assert host.hooks_until == pytest.approx(spot.HOOKS_SECONDS, abs=1)
    assert host.unmount_seconds == pytest.approx(spot.FLUSHED_SECONDS, abs=1)
    assert host.ran.exists()
    assert "stop at 12:02:00 UTC" in host.did[0]


def test_it_is_asked_often_enough() -> None:
    """Within ten seconds of the notice the hooks run: one look and two answers that are late."""
    assert spot.PERIOD_SECONDS + 2 * spot.TIMEOUT_SECONDS < 10
    assert spot.HOOKS_SECONDS < spot.FLUSHED_SECONDS <= 90


def test_another_notice_is_acted_on_again(tmp_path: Path) -> None:
    host = Host(tmp_path, [notice(), None, notice(300)])
    assert host.watch().count("hooks") == 2


def test_a_host_that_stays_on_mounts_its_buckets_again(tmp_path: Path) -> None:
    host = Host(tmp_path, [notice(), *[None] * 130])
    assert host.watch() == ["signal", "warn", "hooks", "unmount", "again"]
    assert not host.ran.exists()


def test_one_that_is_told_for_ever_is_not_acted_on_for_ever(tmp_path: Path) -> None:
    host = Host(tmp_path, [notice(), *[notice()] * 400])
    assert host.watch() == ["signal", "warn", "hooks", "unmount", "again"]


def test_silence_of_the_service_is_said_once(tmp_path: Path) -> None:
    host = Host(
        tmp_path, [OSError("no route"), OSError("no route"), None, OSError("gone"), notice()]
    )
    assert host.watch()[0] == "signal"
    said = [did for did in host.did if "tells nothing" in did]
    assert len(said) == 2 and "no route" in said[0]


@pytest.fixture
def service() -> Iterator[Callable[[str | None], str]]:
    """A metadata service, version 2, with this notice; gives its address."""
    servers: list[HTTPServer] = []

    def start(text: str | None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.reply(200, "token")

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != "token":
                    return self.reply(401, "")
                assert self.path == "/latest/meta-data/spot/instance-action"
                return self.reply(404 if text is None else 200, text or "")

            def reply(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_service_is_asked_with_a_token(service: Callable[[str | None], str]) -> None:
    assert spot.ask(service(None)) is None
    told = json.dumps({"action": "stop", "time": "2026-11-22T12:02:00Z"})
    assert spot.ask(service(told)) == notice()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"action": "stop", "time": "soon"}'])
def test_an_answer_that_makes_no_sense_is_an_error(
    service: Callable[[str | None], str], text: str
) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        spot.ask(service(text))


def test_only_what_runs_in_tmux_and_handles_it_gets_the_signal() -> None:
    table = [
        Process(1, 0, "systemd", "S"),
        Process(10, 1, "tmux: server", "S"),
        Process(11, 10, "bash", "S"),
        Process(12, 11, "python", "R"),
        Process(13, 12, "python", "S"),
        Process(14, 11, "python", "Z"),
        Process(15, 11, "rsync", "S"),
        Process(20, 1, "python", "R"),
        Process(30, 1, "screen", "S"),
        Process(31, 30, "python", "R"),
    ]
    handlers = {1, 10, 11, 12, 13, 14, 20, 31}
    found = spot.trainings(table, handlers.__contains__)
    assert [process.pid for process in found] == [12, 13, 31]


@pytest.mark.parametrize("handles", [True, False])
def test_a_handler_is_seen_from_outside(handles: bool) -> None:
    install = "signal.signal(signal.SIGUSR1, lambda *_: None);" if handles else ""
    program = f"import signal; {install} print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        assert spot.handles_usr1(process.pid) is handles
        process.kill()
    assert spot.handles_usr1(process.pid) is False


def test_a_training_gets_it_and_one_that_has_ended_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: got.append(number))
    host = Host(tmp_path, [])
    gone = subprocess.Popen(["true"])
    gone.wait()
    targets = [Process(gone.pid, 1, "python", "R"), Process(os.getpid(), 1, "python", "R")]
    steps = Steps(**{**vars(host.steps()), "signalled": lambda: targets})
    try:
        spot.prepare(notice(), steps, time.monotonic())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]


def test_the_shutdown_does_not_run_the_hooks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hooks, trace = tmp_path / "hooks", tmp_path / "trace"
    hooks.mkdir()
    (hooks / "10-x").write_text(f"#!/bin/sh\necho x >>{trace}\n")
    (hooks / "10-x").chmod(0o755)
    config = {"state_file": str(tmp_path / "run/state.json"), "before_stop_seconds": 10}
    (tmp_path / "config").write_text(json.dumps(config))
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(before_stop, "CONFIG", tmp_path / "config")
    monkeypatch.setattr(before_stop, "HOOKS", hooks)
    monkeypatch.setattr(sys, "argv", ["before_stop.py"])
    before_stop.main()
    (tmp_path / "run" / before_stop.RAN).touch()
    before_stop.main()
    assert trace.read_text() == "x\n"
    assert "have run when AWS gave notice" in capsys.readouterr().out
