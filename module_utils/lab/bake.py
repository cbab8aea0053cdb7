"""What an image of a host must not hold: put aside on the data volume, cleaned away, looked for.

The host itself goes on afterwards: what it needs is copied to the data volume, which is not part
of the image, and comes back at its next boot by `bake-restore`, a program of a few lines that also
runs by a timer should the host never be stopped. A host made from the image has no such copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import LabError

Run = Callable[[Sequence[str]], str]
ASIDE = "data/.lab/bake"
# What the host needs back. Globs below the root; of folders, all that is in them. Units are
# switched off, since at the image's first boot their settings and the data volume are not there
# yet, and the firewall may know another address of the user; the roles switch them on again.
AWAY = (
    "etc/ssh/ssh_host_*",
    "etc/systemd/system/*.wants/lab-*",
    "etc/systemd/system/*.wants/nftables.service",
    "etc/passwd-s3fs",
    "home/*",
    "root",
    # By which DKMS signs the modules that it builds; a host made from the image makes its own.
    "var/lib/dkms/mok.*",
    "var/lib/lab/*",
    "var/lib/shim-signed/mok/*",
    "var/log",
    "var/mail/*",
    "var/spool/cron/crontabs/*",
)
# Of the lab's settings, those that not everybody may read: hashes, tokens, cookie secrets, keys.
SETTINGS = "etc/lab"
# What nobody needs back.
CLEAR = (
    "tmp/*",
    "var/cache/apt/*",
    "var/cache/lab/*",
    "var/lib/apt/lists/*",
    "var/lib/cloud/instances/*/cloud-config.txt",
    "var/lib/cloud/instances/*/obj.pkl",
    "var/lib/cloud/instances/*/user-data*",
    "var/lib/cloud/instances/*/vendor*-data*",
    "var/lib/cloud/seed/*",
    "var/lib/dbus/machine-id",
    "var/lib/dhcp/*",
    "var/lib/systemd/random-seed",
    "var/tmp/*",
)
# Emptied, not deleted: an empty one gets a new id at each boot, a missing one would count as the
# first boot of a new system.
MACHINE_ID = "etc/machine-id"
# What programs that run now, this one among them, have in the folders of temporary files.
BUSY = ("systemd-private-", "ansible_")
LOGS = "log"
RESTORE = "usr/local/lib/lab/bake-restore"
UNIT = "lab-bake-restore.service"
UNDO = "lab-bake-undo"
UNDO_SECONDS = 900

PROGRAM = f"""\
#!/bin/sh
# Brings back what was put aside for an image (playbooks/bake.yml), to the host that it is of.
set -eu
root=${{LAB_ROOT:-}}
aside=$root/{ASIDE}
[ -e "$aside/complete" ] || exit 0
[ "$(cat "$aside/complete")" = "$(cat "$root/data/.lab/ssh_host_keys/instance")" ] || exit 0
rsync --archive --hard-links --acls --xattrs "$aside"/disk/* "$root/"
if [ -z "$root" ]; then
    systemctl daemon-reload
    systemctl try-reload-or-restart --no-block ssh.service
    # Their targets are there already, and would not look for them again.
    for wanted in "$aside"/disk/etc/systemd/system/*.wants/*; do
        [ ! -L "$wanted" ] || systemctl start --no-block "${{wanted##*/}}"
    done
fi
rm -rf "$aside"
"""
UNIT_TEXT = f"""\
# Written by playbooks/bake.yml.
[Unit]
Description=Bring back what was put aside for an image
RequiresMountsFor=/data
# The host is known by its keys from the first connection on.
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/{RESTORE}
# It writes wherever something came from, as whoever it belongs to (setgid folders too), and asks
# systemd; nothing else.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETFCAP
IPAddressDeny=any
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateNetwork=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

# Where the image is looked through for what looks like a secret, and what does.
LOOKED_AT = ("etc", "home", "opt", "root", "srv", "usr/local", "var")
MOST_BYTES = 8 << 20
# Packages bring keys for their own tests; they come from the lock and hold nothing of the user's.
PACKAGES = re.compile(r"/(site-packages|dist-packages)(/|$)")
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{40}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
)
WORD = re.compile(rb"[A-Za-z0-9+/=_$.-]{32,}")
PEOPLE = range(1000, 60001)
SHELLS = ("bash", "dash", "fish", "sh", "zsh")
HISTORIES = re.compile(r"(_|\.)hist(ory)?$|history\.sqlite$|\.viminfo$")


def run(argv: Sequence[str]) -> str:
    """Run a program and return what it prints. Raises LabError."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv[:3])}… failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def away(root: Path, more: Sequence[str] = ()) -> list[Path]:
    """List what goes aside; `more` are further paths or globs. Raises LabError."""
    for pattern in more:
        if not pattern.startswith("/") or ".." in pattern.split("/") or pattern.strip("/") == "":
            raise LabError(f'bake_aside has "{pattern}", but it must be an absolute path')
    patterns = [*AWAY, *(pattern.strip("/") for pattern in more)]
    found = {path for pattern in patterns for path in root.glob(pattern)}
    settings = (path for path in (root / SETTINGS).rglob("*") if path.is_file())
    found |= {path for path in settings if not path.stat().st_mode & 0o004}
    return sorted(path for path in found if path.name != UNIT)


def check(root: Path, paths: Sequence[Path], runner: Run = run) -> None:
    """Refuse where the copies would be in the image, or have no room. Raises LabError."""
    data = root / "data"
    if not data.is_dir() or data.stat().st_dev == root.stat().st_dev:
        raise LabError(
            "There is no data volume at /data, where what must not be in the image is put aside:"
            " run `ansible-playbook site.yml`, which attaches it"
        )
    needed = sum(int(line.split()[0]) for line in _du(paths, runner)) << 10
    free = _free(data)
    if needed > free:
        raise LabError(
            f"Home folders and logs ({needed >> 20} MB) are put aside on /data, which has"
            f" {free >> 20} MB free: delete what you do not need, or grow it with -e lab_data_gb=…"
        )


def _free(path: Path) -> int:
    return shutil.disk_usage(path).free


def _du(paths: Sequence[Path], runner: Run) -> list[str]:
    if not paths:
        return []
    return runner(["du", "--summarize", "--one-file-system", "-k", *map(str, paths)]).splitlines()


def put_aside(root: Path, instance: str, paths: Sequence[Path], runner: Run = run) -> None:
    """Copy to the data volume, and mark it last: without the mark it is none. Raises LabError."""
    aside = root / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(mode=0o755, exist_ok=True)
    aside.mkdir(mode=0o700)
    (aside / "disk").mkdir(mode=0o755)
    sources = [f"{root}/./{path.relative_to(root)}" for path in paths]
    flags = ["--archive", "--hard-links", "--acls", "--xattrs", "--relative", "--one-file-system"]
    runner(["rsync", *flags, *sources, f"{aside}/disk/"])
    os.sync()
    (aside / "complete").write_text(f"{instance}\n")
    os.sync()


def arm(root: Path, runner: Run = run) -> None:
    """See to it that all comes back, at the next boot or by a timer. Raises LabError."""
    program, unit = root / RESTORE, root / "etc/systemd/system" / UNIT
    program.write_text(PROGRAM)
    program.chmod(0o755)
    unit.write_text(UNIT_TEXT)
    runner(["systemctl", "daemon-reload"])
    runner(["systemctl", "enable", UNIT])
    timer = [f"--unit={UNDO}", f"--on-active={UNDO_SECONDS}", "--collect"]
    runner(["systemd-run", *timer, f"/{RESTORE}"])


def clean(root: Path, paths: Sequence[Path]) -> None:
    """Take away what was put aside, and what nobody needs. Homes are left as a new user's."""
    homes = [path for path in paths if path.parent == root / "home" and path.is_dir()]
    for path in paths:
        _empty(path)
    for path in (path for pattern in CLEAR for path in root.glob(pattern)):
        if not path.name.startswith(BUSY):
            _remove(path)
    for home in homes:
        _fill(home, root / "etc/skel")
    (root / MACHINE_ID).write_text("")
    os.sync()


def _empty(path: Path) -> None:
    """Remove a file; of a folder what is in it, for somebody may count on its being there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
    elif path.name == LOGS:  # daemons want the folders that were made for them
        for inner in [p for p in path.rglob("*") if p.is_symlink() or not p.is_dir()]:
            inner.unlink(missing_ok=True)
    else:
        for inner in [p for p in path.iterdir() if not os.path.ismount(p)]:
            _remove(inner)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _fill(home: Path, skeleton: Path) -> None:
    owner = home.stat()
    for source in skeleton.iterdir() if skeleton.is_dir() else ():
        if source.is_file():
            shutil.copy(source, home / source.name)
            os.chown(home / source.name, owner.st_uid, owner.st_gid)


def known(root: Path) -> list[bytes]:
    """Return what was put aside and must be nowhere else: long words of keys, hashes, tokens."""
    disk = root / ASIDE / "disk"
    places = [*(disk / "etc/ssh").glob("*"), *(disk / SETTINGS).rglob("*")]
    places += [*(disk / "home").glob("*/.ssh/*"), *(disk / "root/.ssh").glob("*")]
    texts = (path.read_bytes() for path in places if path.is_file() and not path.is_symlink())
    return sorted({word for text in texts for word in WORD.findall(text)})


def scan(root: Path, paths: Sequence[Path], words: Sequence[bytes]) -> list[str]:
    """Look through what will be in the image; return a line for each thing that must not be."""
    found = [f"{_shown(root, path)} is still there" for path in paths if _holds(root, path)]
    if (root / MACHINE_ID).read_text().strip():
        found.append(f"/{MACHINE_ID} is not empty")
    for line in _text(root / "etc/shadow").splitlines():
        user, _, rest = line.partition(":")
        if rest.startswith("$"):
            found.append(f"/etc/shadow has a password of {user}: lock it with `passwd -l {user}`")
    wanted = re.compile(b"|".join(map(re.escape, words))) if words else None
    for path in _files(root):
        data = path.read_bytes()
        if HISTORIES.search(path.name) and data:
            found.append(f"{_shown(root, path)} is a history")
        if SECRETS.search(data):
            found.append(f"{_shown(root, path)} holds a private key or an access key")
        elif wanted and wanted.search(data):
            found.append(f"{_shown(root, path)} holds a key or a secret of this host")
    return found


def _holds(root: Path, path: Path) -> bool:
    """Tell whether something is left of what goes away; in a home a new user's files may be.

    In the logs the next line is written at once; they are looked through for secrets as all is.
    """
    if path.name == LOGS:
        return False
    if not path.is_dir() or path.is_symlink():
        return path.exists() or path.is_symlink()
    skeleton = root / "etc/skel"
    may_be = {each.name for each in skeleton.iterdir()} if skeleton.is_dir() else set()
    left = (inner for inner in path.iterdir() if inner.name not in may_be)
    return any(not os.path.ismount(inner) for inner in left)


def _files(root: Path) -> Iterator[Path]:
    device = root.stat().st_dev
    for start in LOOKED_AT:
        for folder, folders, names in os.walk(root / start):
            inside = [name for name in folders if _is_ours(Path(folder, name), device)]
            folders[:] = inside
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_BYTES:
                    yield path


def _is_ours(path: Path, device: int) -> bool:
    """Leave out what lies on other disks, and packages."""
    return not PACKAGES.search(f"{path}/") and path.lstat().st_dev == device


def _shown(root: Path, path: Path) -> str:
    return f"/{path.relative_to(root)}"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def sessions(proc: Path, own: int) -> list[int]:
    """List what people run, and root's shells at a terminal, but for our own line of processes.

    A shell that is ended kindly would write its history once more.
    """
    line = set()
    while own > 1:
        line.add(own)
        own = _stat(proc, own)[0]
    found = []
    for entry in proc.glob("[0-9]*"):
        pid = int(entry.name)
        try:
            shell = (entry / "comm").read_text().strip() in SHELLS and _stat(proc, pid)[1] != 0
            person = _user(entry) in PEOPLE or shell
        except (FileNotFoundError, ProcessLookupError):
            continue
        if person and pid not in line:
            found.append(pid)
    return sorted(found)


def _user(entry: Path) -> int:
    line = next(x for x in (entry / "status").read_text().splitlines() if x.startswith("Uid:"))
    return int(line.split()[1])


def _stat(proc: Path, pid: int) -> tuple[int, int]:
    """Return the parent of a process and its terminal (0: none)."""
    fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), int(fields[4])
