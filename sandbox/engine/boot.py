"""What a machine finds in /run/sandbox when it starts: written anew before each start."""

from __future__ import annotations

import ipaddress
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.engine.volumes import LoopDevice
from sandbox.model import Machine

HERE = Path(__file__).resolve().parent
GUEST_FOLDER = "/run/sandbox"
BANNER = "sandbox: the machine starts\n"  # the first line that init.sh prints
GUEST_SCRIPTS = ("attach", "detach", "flush")
SCRIPT = "script"
CLOUD_INIT = "cloud-init"
NOTHING = "nothing"
# What cloud-init takes besides "#!" scripts.
CLOUD_INIT_STARTS = (
    b"#cloud-config", b"#cloud-boothook", b"#include", b"#part-handler", b"## template: jinja",
    b"Content-Type:", b"MIME-Version:", b"\x1f\x8b",
)  # fmt: skip
HOST_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
USER_DATA_UNIT = """\
[Unit]
Description=User data of the instance
After=network-online.target ssh.service
Wants=network-online.target

[Service]
Type=exec
ExecStart=@FOLDER@/scripts/part-001
ExecStopPost=/bin/touch @FOLDER@/boot-finished
StandardOutput=append:/var/log/cloud-init-output.log
StandardError=inherit
TimeoutSec=infinity
"""

# cloud-init asks EC2's metadata service for a token only where the firmware says "EC2", which no
# container's does; so it gets the same data from a folder, and the service need not bend.
CLOUD_CONFIG = """\
datasource_list: [ NoCloud, None ]
network: {config: disabled}
preserve_hostname: true
ssh_deletekeys: false
ssh_genkeytypes: []
growpart: {mode: "off"}
resize_rootfs: false
locale: C.UTF-8
system_info: {default_user: {name: @USER@}}
"""


@dataclass(frozen=True)
class Attachment:
    """A volume at a device name."""

    device: str
    volume_id: str
    loop: LoopDevice

    @property
    def arguments(self) -> list[str]:
        """What the scripts in GUEST_SCRIPTS take."""
        return [self.device, str(self.loop.major), str(self.loop.minor), self.volume_id]


def user_data_kind(user_data: bytes | None) -> str:
    """Tell who runs the user data: SCRIPT, CLOUD_INIT or NOTHING."""
    text = (user_data or b"").lstrip()
    if text.startswith(b"#!"):
        return SCRIPT
    return CLOUD_INIT if text.startswith(CLOUD_INIT_STARTS) else NOTHING


def prepare(folder: Path, machine: Machine, attachments: Iterable[Attachment]) -> None:
    """Write the files of a start to `folder`, which the container mounts at GUEST_FOLDER."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "INSTANCE_ID": machine.instance_id,
        "LOGIN_USER": machine.login_user,
        "USER_DATA": user_data_kind(machine.user_data),
    }
    quoted = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    _write(folder / "settings", quoted)
    _write(folder / "init", (HERE / "init.sh").read_text())
    for name in GUEST_SCRIPTS:
        _write(folder / name, (HERE / f"{name}.sh").read_text())
    _write(folder / "authorized_keys", "".join(f"{key.strip()}\n" for key in machine.public_keys))
    _write(folder / "resolv.conf", resolv_conf())
    _write(folder / "user-data.service", USER_DATA_UNIT)
    _write(folder / "cloud.cfg", cloud_config(machine.login_user))
    _write(folder / "meta-data", cloud_meta_data(machine))
    (folder / "user-data").write_bytes((machine.user_data or b"").lstrip())
    write_attachments(folder, attachments)


def write_attachments(folder: Path, attachments: Iterable[Attachment]) -> None:
    """Record which volumes a machine has; the next start makes their nodes."""
    _write(folder / "volumes", "".join(f"{' '.join(one.arguments)}\n" for one in attachments))


def read_attachments(folder: Path) -> list[Attachment]:
    """Give the record that write_attachments made; empty when there is none."""
    try:
        lines = (folder / "volumes").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = (line.split() for line in lines)
    return [
        Attachment(device, volume, LoopDevice(Path(), int(major), int(minor)))
        for device, major, minor, volume in rows
    ]


def cloud_config(login_user: str) -> str:
    """Give cloud-init's settings: data from its seed folder, and nothing done twice."""
    return CLOUD_CONFIG.replace("@USER@", json.dumps(login_user))


def cloud_meta_data(machine: Machine) -> str:
    """Give what cloud-init knows about the machine (JSON, which is YAML)."""
    facts = {
        "instance-id": machine.instance_id,
        "local-hostname": machine.hostname,
        "public-keys": list(machine.public_keys),
    }
    return json.dumps(facts) + "\n"


def resolv_conf(places: Sequence[Path] = HOST_RESOLVERS) -> str:
    """Give this machine's name servers as far as a container can reach them, else nothing."""
    for place in places:
        try:
            lines = place.read_text().splitlines()
        except OSError:
            continue
        usable = [line for line in lines if _is_usable(line)]
        if any(line.startswith("nameserver") for line in usable):
            return "\n".join(usable) + "\n"
    return ""


def _is_usable(line: str) -> bool:
    word, _, rest = line.partition(" ")
    if word in ("search", "domain", "options"):
        return True
    if word != "nameserver":
        return False
    try:
        return not ipaddress.ip_address(rest.strip().partition("%")[0]).is_loopback
    except ValueError:
        return False


def _write(path: Path, text: str) -> None:
    # In place, not renamed: a running container's mount shows the same file.
    path.write_text(text)
