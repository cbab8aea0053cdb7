"""The thin part: what cannot be read is unknown, the state file is whole or none, and it acts."""

from __future__ import annotations

import getpass
import json
import socket
import ssl
import subprocess
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from roles.idle_stop.files.lab_idle import app, collect, report, store, wishes
from roles.idle_stop.files.lab_idle.decision import Decision, Sample, Settings, Signal, step

KERNEL = {"id": "k1", "execution_state": "busy", "last_activity": "2026-11-22T10:00:00Z"}


class FakeJupyter(BaseHTTPRequestHandler):
    """Answers as Jupyter does to the token "sesame", and keeps what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        allowed = self.headers["Authorization"] == "token sesame"
        self.send_response(200 if allowed else 403)
        self.end_headers()
        body = [KERNEL] if urlsplit(self.path).path == "/api/kernels" else []
        self.wfile.write(json.dumps(body if allowed else {"message": "Forbidden"}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def jupyter() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (FakeJupyter,), {"asked": asked})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("sesame\n")
    return path


def test_jupyter_is_asked_without_that_counting(
    jupyter: tuple[str, list[str]], token: Path
) -> None:
    url, asked = jupyter
    signal = collect.jupyter(url, token)
    assert (signal.state, signal.detail) == ("active", "1 busy of 1 kernel, 0 terminals")
    assert asked == ["/api/kernels?no_track_activity=1", "/api/terminals?no_track_activity=1"]


def test_jupyter_is_asked_by_tls_and_only_the_one_that_is_known(
    token: Path, tmp_path: Path
) -> None:
    known, other = certificate(tmp_path / "known"), certificate(tmp_path / "other")
    handler = type("Handler", (FakeJupyter,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(known)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}"
    assert collect.jupyter(url, token, str(known)).state == "active"
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        collect.jupyter(url, token, str(other))
    server.shutdown()
    server.server_close()


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 in one file, as role jupyter has openssl make it."""
    folder.mkdir()
    made = [folder / "key", folder / "crt"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", made[0], "-out",
         made[1], "-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both"
    both.write_text("".join(path.read_text() for path in made))
    return both


def test_a_refused_token_is_not_idle(jupyter: tuple[str, list[str]], token: Path) -> None:
    token.write_text("wrong")
    with pytest.raises(ValueError, match=r"answers 403 to the token of .*/token$"):
        collect.jupyter(jupyter[0], token)


def test_no_server_is_absent(token: Path) -> None:
    assert collect.jupyter(nobody(), token).state == "absent"


def settings_file(tmp_path: Path, **over: Any) -> Path:
    config = {
        "limit_seconds": 3600,
        "warn_seconds": 600,
        "period_seconds": 60,
        "load_per_cpu": 1000,
        "disk_rate": 500_000,
        "network_rate": 50_000,
        "gpu_percent": 5,
        "gpu_jobs": True,
        "user": getpass.getuser(),
        "before_stop_unit": "",
        "before_stop_seconds": 10,
        "notice_dir": str(tmp_path / "none"),
        "wishes_dir": str(tmp_path / "run/wishes"),
        "ssh_ports": [1],
        "jupyter_url": nobody(),
        "jupyter_token_file": str(tmp_path / "none"),
        "jupyter_certificate": "",
        "state_file": str(tmp_path / "run/state.json"),
        "poweroff_command": ["touch", str(tmp_path / "off")],
    } | over
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


def still(monkeypatch: pytest.MonkeyPatch, signal: Signal) -> list[float]:
    """Put one signal in the host's place, and a clock that the test sets."""
    clock = [0.0]
    monkeypatch.setattr(collect, "sample", lambda _: Sample("boot", clock[0], (signal,)))
    return clock


IDLE = Signal("ssh", "idle", "no connection")


def test_it_powers_off_after_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_file(tmp_path, warn_seconds=0)
    clock = still(monkeypatch, IDLE)
    for minute in range(60):
        clock[0] = minute * 60.0
        assert app.main(["--config", str(config)]) == 0
        assert not (tmp_path / "off").exists()
    clock[0] = 3600.0
    assert app.main(["--config", str(config)]) == 0
    assert (tmp_path / "off").exists()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "<5>idle for 0 s of 1 h, powers off in 1 h",
        "<5>stop: idle for 1 h, the limit is 1 h",
    ]


def test_a_power_off_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_file(tmp_path, limit_seconds=60, warn_seconds=0, poweroff_command=["false"])
    clock = still(monkeypatch, IDLE)
    codes = []
    for minute in range(3):
        clock[0] = minute * 60.0
        codes.append(app.main(["--config", str(config)]))
    assert codes == [0, 1, 1]
    assert capsys.readouterr().err.count("<3>false ended with 1") == 2


def test_a_power_off_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_file(tmp_path, limit_seconds=60, poweroff_command=["/no/such/command"])
    clock = still(monkeypatch, IDLE)
    app.main(["--config", str(config)])
    clock[0] = 60.0
    assert app.main(["--config", str(config)]) == 1
    assert "<3>/no/such/command did not run" in capsys.readouterr().err


def test_the_same_reason_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_file(tmp_path)
    clock = still(monkeypatch, Signal("load", "active", "3.1 where 0.8 is busy"))
    for minute in range(5):
        clock[0] = minute * 60.0
        app.main(["--config", str(config)])
    assert capsys.readouterr().err == "<5>stays on: load: 3.1 where 0.8 is busy\n"


def test_this_machine_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every real source once, and the page that explains it."""
    config = settings_file(tmp_path)
    assert app.main(["--config", str(config), "--explain"]) == 1
    assert app.main(["--config", str(config)]) == 0
    capsys.readouterr()
    assert app.main(["--config", str(config), "--explain"]) == 0
    page = capsys.readouterr().out
    names = [line.split()[0] for line in page.splitlines()[2:]]
    assert names == [
        "ssh", "console", "tmux", "jupyter", "terminals", "packages", "ansible", "cluster",
        "uploads", "load", "disk", "network", "gpu",
    ]  # fmt: skip


def test_what_fails_is_unknown(tmp_path: Path) -> None:
    config = json.loads(settings_file(tmp_path, jupyter_url="http://[", ssh_ports=None).read_text())
    states = {signal.name: signal for signal in collect.sample(config).signals}
    assert states["jupyter"].state == "unknown"
    assert states["jupyter"].detail.startswith("ValueError: ")


def test_a_gpu_without_a_driver_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "pci/0000:00:1e.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect.gpu(5, pci=tmp_path / "pci").state == "absent"


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("case $* in *gpu=*) echo 87;; esac", "active"),
        ("case $* in *gpu=*) echo 0;; esac", "idle"),
        ("case $* in *gpu=*) echo 0;; *) echo 99999999;; esac", "active"),
    ],
)
def test_a_gpu_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: str
) -> None:
    assert collect.gpu(5, pci=fake_gpu(tmp_path, monkeypatch, script)).state == state


def test_a_broken_driver_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pci = fake_gpu(tmp_path, monkeypatch, "echo 'no driver' >&2; exit 9")
    with pytest.raises(ValueError, match=r"^nvidia-smi ended with 9: no driver$"):
        collect.gpu(5, pci=pci)


def fake_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    device = tmp_path / "pci/0000:00:1e.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "pci"


def test_the_record_comes_back_as_it_was(tmp_path: Path) -> None:
    settings = Settings(3600, 60, 600)
    sample = Sample("b", 12.5, (Signal("jupyter", "idle", "1 kernel", "abc"), IDLE))
    memory, decision = step(None, sample, settings)
    record = store.Record(memory, sample, decision, settings)
    store.save(tmp_path / "new/state.json", record)
    assert store.load(tmp_path / "new/state.json") == record
    assert (tmp_path / "new/state.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"memory": {"boot": 1}, "sample": null}'])
def test_a_torn_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert store.load(tmp_path / "state.json") is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (3600, "1 h"), (5400, "1 h 30 min")],
)
def test_spans(seconds: float, said: str) -> None:
    assert report.span(seconds) == said


def test_the_warning_says_when() -> None:
    text = report.warning(Decision("warn", 3000, 600, ()))
    assert text.startswith("This host has been idle for 50 min and powers off in 10 min. Any work")


def test_wishes_are_in_the_sample(tmp_path: Path) -> None:
    config = json.loads(settings_file(tmp_path).read_text())
    folder, boot = Path(config["wishes_dir"]), collect.boot_identity()
    wishes.prepare(folder, config["user"])
    assert collect.sample(config).kept_until == 0
    wishes.write(folder, wishes.Wishes(boot, 1e12, off=True, by="ada"))
    sample = collect.sample(config)
    assert 0 < sample.kept_until - sample.at <= wishes.LONGEST_SECONDS
    assert sample.signals[-1] == Signal("switch", "active", "lab idle off by ada")
    (folder / wishes.FILE).write_text("{half")
    assert collect.sample(config).signals[-1].state == "unknown"


def test_hooks_run_before_the_power_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    for name in ("systemctl", "before"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name} $* >> {trace}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(app, "BEFORE_STOP", ("before",))
    off = tmp_path / "off"
    text = settings_file(tmp_path, before_stop_unit="u.service",
                         poweroff_command=["touch", str(off)]).read_text()  # fmt: skip
    (tmp_path / "run").mkdir()
    assert app.leave(json.loads(text)) == 0
    assert off.exists()
    assert trace.read_text().splitlines() == ["systemctl stop u.service", "before --unmount"]
    # Still there at the next look: the next stop has its hooks again.
    for _ in range(2):
        app.stay(json.loads(text))
    assert trace.read_text().splitlines()[2:] == ["systemctl start u.service"]
    assert app.leave(json.loads(text) | {"poweroff_command": ["false"]}) == 1
    assert trace.read_text().splitlines()[-1] == "systemctl start u.service"
