"""The key of the lab on the controller: made by ssh-keygen, never replaced silently."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import LabError

PRIVATE_KEY = "id_ed25519"
MAGIC = b"openssh-key-v1\0"
Run = Callable[[Sequence[str]], str]


def run(command: Sequence[str]) -> str:
    """Run a program and return what it prints. Raises LabError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise LabError(
            f"{command[0]} is not installed on this machine: apt-get install openssh-client"
        ) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{command[0]} took longer than 60 s: run the same command again") from None
    if done.returncode != 0:
        raise LabError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(frozen=True)
class LocalKey:
    """The key file as it is; `public_key` is empty where there is no private key."""

    path: Path
    public_key: str
    loose: tuple[Path, ...]


def look(state_dir: Path) -> LocalKey:
    """Read the state folder and the key in it, changing nothing. Raises LabError.

    `loose` names the folder and files that others than their owner can read.
    """
    _writable(state_dir)
    path = state_dir / PRIVATE_KEY
    try:
        loose = tuple(
            item for item in (state_dir, path) if item.exists() and item.stat().st_mode & 0o077
        )
        if not path.exists():
            return LocalKey(path, "", loose)
        public = path.with_suffix(".pub")
        text = public.read_text() if public.exists() else public_half(path)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}: see who owns it") from error
    return LocalKey(path, " ".join(text.split()[:2]), loose)


def public_half(path: Path) -> str:
    """Read the public key out of an OpenSSH private key, whatever its mode. Raises LabError."""
    try:
        body = "".join(path.read_text().strip().splitlines()[1:-1])
        raw = base64.b64decode(body, validate=True)
        if not raw.startswith(MAGIC):
            raise ValueError("no OpenSSH key")
        rest = raw[len(MAGIC) :]
        for _ in ("cipher", "derivation", "its options"):
            _, rest = _field(rest)
        blob, _ = _field(rest[4:])  # after the number of keys, which is 1
        kind, _ = _field(blob)
        return f"{kind.decode('ascii')} {base64.b64encode(blob).decode()}"
    except ValueError as error:
        raise LabError(
            f"{path} is not a private key of OpenSSH ({error}): put the right file back, or move it"
            " away and run the same command again"
        ) from error


def _field(raw: bytes) -> tuple[bytes, bytes]:
    """Split off one string of the SSH wire format."""
    size = int.from_bytes(raw[:4], "big")
    if len(raw) < 4 + size:
        raise ValueError("cut short")
    return raw[4 : 4 + size], raw[4 + size :]


def _writable(state_dir: Path) -> None:
    """See that the folder can be written, or made. Raises LabError."""
    there = state_dir
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise LabError(
            f"{state_dir} cannot be written ({there} is {'read-only' if there.is_dir() else 'no'}"
            f"{'' if there.is_dir() else ' folder'} for this user): it holds the lab's key and"
            f" settings; mend it, for instance with `sudo chown -R $USER {there}`"
        )


def tighten(key: LocalKey) -> None:
    """Make the folder 0700 and the key 0600."""
    for item in key.loose:
        item.chmod(0o700 if item.is_dir() else 0o600)


def prepare(state_dir: Path) -> None:
    """Make the state folder, readable by its owner alone."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def make(state_dir: Path, comment: str, runner: Run = run) -> LocalKey:
    """Make the key beside its place and move it in, so that a kill leaves a whole key or none."""
    prepare(state_dir)
    path, new = state_dir / PRIVATE_KEY, state_dir / f"{PRIVATE_KEY}.new"
    for left_over in (new, new.with_suffix(".new.pub")):
        left_over.unlink(missing_ok=True)
    runner(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)])
    (state_dir / f"{PRIVATE_KEY}.new.pub").replace(path.with_suffix(".pub"))
    new.replace(path)
    return look(state_dir)
