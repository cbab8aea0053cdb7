"""How ssh reaches the host: its address, its host key under a name that survives a new address."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

# Best first; one is enough.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
Scan = Callable[[str], list[str]]


@dataclass(frozen=True)
class Host:
    """The host to be reached; `alias` (its instance id) is its name in known_hosts."""

    lab: str
    alias: str
    address: str
    user: str
    tunnel_port: int
    state_dir: Path
    proxy: str = ""  # the command that leads to its port 22, where that is not open
    worker: int = 0  # the number of a worker, 0 for the lab's host

    @property
    def known_hosts(self) -> Path:
        """The lab's own known_hosts."""
        return self.state_dir / "known_hosts"

    @property
    def control_path(self) -> str:
        """The socket of the tunnel that playbooks/tunnel.yml opens.

        Beside those of Ansible (ansible.cfg) and not in the lab's folder: the path of a socket has
        at most 107 characters, 17 of which ssh takes for itself.
        """
        digest = hashlib.sha256(str(self.state_dir).encode()).hexdigest()
        return f"~/.ansible/gpulab-cp/tunnel-{digest[:12]}"

    @property
    def ssh_config(self) -> Path:
        """The lab's own ssh_config."""
        return self.state_dir / "ssh_config"


def scan(address: str) -> list[str]:
    """Ask a host for its keys: lines of type and base64, none while it does not answer."""
    done = subprocess.run(
        ["ssh-keyscan", "-T", "5", "-t", "ed25519,ecdsa,rsa", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    return [" ".join(parts[1:3]) for parts in lines if len(parts) >= 3]  # noqa: PLR2004


def scan_through(proxy: str) -> Scan:
    """Ask as `scan` does, over a command in place of a connection; ssh-keyscan knows no such."""

    def ask(address: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "known_hosts"
            options = {
                "ProxyCommand": proxy,
                "BatchMode": "yes",
                "StrictHostKeyChecking": "accept-new",
                "UserKnownHostsFile": str(record),
                "GlobalKnownHostsFile": "/dev/null",
                "HashKnownHosts": "no",
                "HostKeyAlias": "asked",
                "PreferredAuthentications": "none",
            }
            given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    ["ssh", "-F", "/dev/null", *given, f"nobody@{address}", "true"],
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
            lines = record.read_text().splitlines() if record.exists() else []
        return [" ".join(line.split()[1:3]) for line in lines]

    return ask


def wait_for_keys(
    address: str, seconds: float, scanner: Scan, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Ask until the host answers. Raises LabError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = scanner(address)
        if found:
            return found
        if time.monotonic() >= end:
            raise LabError(
                f"{address} does not answer on port 22 after {seconds:.0f} s: see with `aws ec2"
                " get-console-output` whether it has booted, and whether a firewall between here"
                " and there lets SSH out; then run the same command again"
            )
        sleep(2)


def fingerprint(key: str) -> str:
    """Return the SHA256 fingerprint as ssh prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def known(host: Host) -> list[str]:
    """Return the keys that are on record for this very instance."""
    if not host.known_hosts.exists():
        return []
    lines = (line.split() for line in host.known_hosts.read_text().splitlines())
    return [" ".join(parts[1:3]) for parts in lines if parts and parts[0] == host.alias]


def judge(host: Host, recorded: list[str], offered: list[str], just_made: bool) -> tuple[str, str]:
    """Choose the key to keep on record, and say so where it is taken on trust.

    Returns the key and a warning (mostly empty). Raises LabError where the host offers another key
    than the recorded one.
    """
    same = [key for key in recorded if key in offered]
    if same:
        return same[0], ""
    best = min(offered, key=lambda key: _rank(key.split()[0]))
    if recorded:
        raise LabError(
            f"The host {host.alias} at {host.address} offers another SSH host key"
            f" ({fingerprint(best)}) than the one on record ({fingerprint(recorded[0])}): somebody"
            " may be in between. Compare with `aws ec2 get-console-output --instance-id"
            f" {host.alias} --latest`; if the new key is the host's own, remove"
            f" {host.known_hosts} and run the same command again"
        )
    if just_made:
        return best, ""
    return best, (
        f"No SSH host key of {host.alias} was on record here, so the one it offers is taken:"
        f" {fingerprint(best)}. `aws ec2 get-console-output --latest --instance-id {host.alias}`"
        " shows the right one"
    )


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _entry(host: Host) -> str:
    """Return what an entry of ssh_config says after its name."""
    quoted = '"{}"'.format
    proxy = f"  ProxyCommand {host.proxy}\n" if host.proxy else ""
    return f"""\
  HostName {host.address}
{proxy}  HostKeyAlias {host.alias}
  User {host.user}
  IdentityFile {quoted(host.state_dir / "id_ed25519")}
  IdentitiesOnly yes
  UserKnownHostsFile {quoted(host.known_hosts)}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  CheckHostIP no
  PreferredAuthentications publickey
  ForwardAgent no
  ForwardX11 no
  ServerAliveInterval 30
  ServerAliveCountMax 6
"""


def config(host: Host, workers: Iterable[Host] = ()) -> str:
    """Return the text of ssh_config: a shell with the tunnel, the tunnel alone, the workers."""
    common = f"""\
{_entry(host)}  LocalForward 127.0.0.1:{host.tunnel_port} 127.0.0.1:8888
"""
    text = f"""\
# Written by playbooks/create_host.yml and start.yml; changes are lost.
# A shell with the tunnel to Jupyter. A second shell cannot have the same port: ssh says so and
# goes on without it.
Host {host.lab}
{common}
# The tunnel alone (ssh -N), which fails where the port is taken. playbooks/tunnel.yml opens it.
Host {host.lab}-tunnel
{common}  ExitOnForwardFailure yes
  ControlPath {f'"{host.control_path}"'}
"""
    return text + "".join(f"\n{_heading(one.lab, one.worker)}{_entry(one)}" for one in workers)


def _heading(lab: str, number: int) -> str:
    return f"Host {lab}-worker-{number}\n"


def forget(state_dir: Path, lab: str, gone: Mapping[int, str]) -> dict[Path, str]:
    """Return the new texts of the files that name workers which are gone (number -> id)."""
    texts = {
        path: path.read_text()
        for path in (state_dir / "ssh_config", state_dir / "known_hosts")
        if path.exists()
    }
    changed = {}
    for path, before in texts.items():
        text = before
        for number, alias in gone.items():
            text = re.sub(rf"(?m)^{re.escape(alias)} .*\n", "", text)
            text = re.sub(rf"\n{re.escape(_heading(lab, number))}(?:  .*\n)*", "", text)
        if text != before:
            changed[path] = text
    return changed


def wanted_files(
    host: Host, key: str, workers: Mapping[Host, str] | None = None, asleep: Iterable[Host] = ()
) -> dict[Path, str]:
    """Return both files' texts, with the workers' keys; of those asleep the keys stay on record."""
    keys = {host: [key], **{one: [its] for one, its in (workers or {}).items()}}
    keys |= {one: known(one) for one in asleep}
    lines = [f"{one.alias} {each}\n" for one, its in keys.items() for each in its]
    return {host.ssh_config: config(host, workers or ()), host.known_hosts: "".join(lines)}
