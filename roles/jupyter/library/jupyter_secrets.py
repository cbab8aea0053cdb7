#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the password hash, watcher token and cookie secret of a Jupyter server."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: jupyter_secrets
short_description: Keep the password hash, watcher token and cookie secret of a Jupyter server
version_added: "0.1.0"
description:
  - Writes C(jupyter_server_config.json) with the argon2 hash of the password, and with a token
    for programs on the host that watch the server.
  - The hash is made, and compared, by the jupyter-server that will use it. It is renewed only when
    the password does not match it; the cookie secret is renewed with it, so that sessions of the
    old password end.
  - Restart the server when this reports a change.
attributes:
  check_mode:
    support: full
    description: Nothing is written; where I(python) is not there yet, all of it would change.
  diff_mode:
    support: full
    description: Says what is renewed, never a secret.
options:
  password:
    description: The password, of at least one character.
    type: str
    required: true
  config_dir:
    description: The folder of the server's configuration; it must exist.
    type: path
    required: true
  token_file:
    description: A second place for the token, which root alone can read; its folder must exist.
    type: path
    required: true
  group:
    description: The group that may read the configuration, that is the server's.
    type: str
    required: true
  python:
    description: The Python that jupyter-server is installed in.
    type: path
    required: true
author: GPU lab
"""

EXAMPLES = r"""
- name: Keep the secrets
  jupyter_secrets:
    password: "{{ my_password }}"
    config_dir: /etc/lab/jupyter
    token_file: /etc/lab/jupyter_watcher_token
    group: admin
    python: /opt/lab/venv/bin/python
  notify: Restart Jupyter
"""

RETURN = r"""
renewed:
  description: What was renewed.
  type: list
  elements: str
  returned: success
  sample: [password, cookies]
"""

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

COOKIE_BYTES = 48
# Reads {"password", "hash"}; answers with the same hash where it fits, else with a new one.
HASHER = """
import json, sys
from jupyter_server.auth.security import passwd, passwd_check
asked = json.load(sys.stdin)
fits = bool(asked["hash"]) and passwd_check(asked["hash"], asked["password"])
json.dump(asked["hash"] if fits else passwd(asked["password"]), sys.stdout)
"""


class SecretsError(Exception):
    """What stands in the way, in one sentence."""


@dataclass(frozen=True)
class Secrets:
    """The contents of the three files; empty where a file is not there or makes no sense."""

    hashed: str = ""
    token: str = ""
    token_file: str = ""
    cookie: str = ""


Hasher = Callable[[str, str], str]


def config_text(hashed: str, token: str) -> str:
    """Write the configuration that jupyter-server reads last, and so obeys."""
    settings = {
        "IdentityProvider": {"token": token},
        "PasswordIdentityProvider": {"hashed_password": hashed},
    }
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def read_config(text: str) -> tuple[str, str]:
    """Read hash and token; a torn or foreign file holds neither."""
    try:
        settings = json.loads(text)
        hashed = settings["PasswordIdentityProvider"]["hashed_password"]
        token = settings["IdentityProvider"]["token"]
    except (ValueError, KeyError, TypeError):
        return "", ""
    return (hashed, token) if isinstance(hashed, str) and isinstance(token, str) else ("", "")


def make_plan(now: Secrets, password: str, hasher: Hasher) -> Secrets:
    """Say what the files should hold; ``hasher`` returns the hash it was given if that fits."""
    if not password:
        raise SecretsError("the Jupyter password is empty: give one of at least one character")
    hashed = hasher(password, now.hashed)
    if not hashed.startswith("argon2:"):
        raise SecretsError(f"jupyter-server made a hash of the kind {hashed.partition(':')[0]!r}")
    keep_cookie = hashed == now.hashed and len(now.cookie) >= COOKIE_BYTES
    token = now.token or secrets.token_hex(32)
    cookie = now.cookie if keep_cookie else secrets.token_urlsafe(COOKIE_BYTES)
    return Secrets(hashed, token, token, cookie)


def renewed(now: Secrets, wanted: Secrets) -> list[str]:
    """Name what differs, without telling it."""
    names = {"hashed": "password", "token": "token", "token_file": "token", "cookie": "cookies"}
    kinds = [kind for field, kind in names.items() if getattr(now, field) != getattr(wanted, field)]
    return sorted(set(kinds))


def read(path: Path) -> str:
    """Read a file that may not be there."""
    try:
        return path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


class Files:
    """The three files on the host, and how each may be read."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        folder = Path(module.params["config_dir"])
        self.config = folder / "jupyter_server_config.json"
        self.cookie = folder / "cookie_secret"
        self.token = Path(module.params["token_file"])

    def load(self) -> Secrets:
        """Read what is there."""
        hashed, token = read_config(read(self.config))
        return Secrets(hashed, token, read(self.token).strip(), read(self.cookie))

    def save(self, wanted: Secrets) -> None:
        """Write each file whole or not at all; the hash last, so that a rerun mends the rest."""
        self._write(self.token, wanted.token + "\n")
        self._write(self.cookie, wanted.cookie)
        self._write(self.config, config_text(wanted.hashed, wanted.token))

    def keep_modes(self) -> bool:
        """Put right who may read them; whether anything was wrong."""
        group = self.module.params["group"]
        changed = False
        for path, readers, mode in (
            (self.token, "root", "0600"),
            (self.cookie, group, "0640"),
            (self.config, group, "0640"),
        ):
            if path.exists():
                attributes = {"path": str(path), "owner": "root", "group": readers, "mode": mode}
                attributes |= {"secontext": [None, None, None], "attributes": None}
                changed |= self.module.set_fs_attributes_if_different(attributes, False)
        return changed

    def _write(self, path: Path, text: str) -> None:
        if read(path) == text:
            return
        handle, new = tempfile.mkstemp(prefix=".lab-", dir=path.parent)  # 0600 from its birth
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        self.module.atomic_move(new, str(path))


def hasher_of(module: AnsibleModule) -> Hasher:
    """Let the server's own code hash; the password goes through a pipe."""

    def ask(password: str, hashed: str) -> str:
        code, out, err = module.run_command(
            [module.params["python"], "-c", HASHER],
            data=json.dumps({"password": password, "hash": hashed}),
        )
        if code:
            last = err.strip().splitlines()[-1:] or ["no word"]
            raise SecretsError(f"{module.params['python']} could not hash the password: {last[0]}")
        answer = json.loads(out)
        return str(answer)

    return ask


def first_run(module: AnsibleModule) -> bool:
    """Whether a check run looks at a host on which the earlier steps have not been done."""
    return module.check_mode and not Path(module.params["python"]).exists()


def run(module: AnsibleModule) -> dict[str, Any]:
    """Decide, carry out, and describe the change."""
    files = Files(module)
    now = files.load()
    if first_run(module):
        kinds = ["cookies", "password", "token"]
    else:
        wanted = make_plan(now, module.params["password"], hasher_of(module))
        kinds = renewed(now, wanted)
        if kinds and not module.check_mode:
            files.save(wanted)
    modes = files.keep_modes()
    diff = {"before": "", "after": "".join(f"{kind}: renewed\n" for kind in kinds)}
    return {"changed": bool(kinds) or modes, "renewed": kinds, "diff": diff}


def main() -> NoReturn:
    """Speak with Ansible."""
    module = AnsibleModule(
        argument_spec={
            "password": {"type": "str", "required": True, "no_log": True},
            "config_dir": {"type": "path", "required": True},
            "token_file": {"type": "path", "required": True, "no_log": False},
            "group": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except SecretsError as error:
        module.fail_json(msg=str(error))
    raise AssertionError("unreachable: both of the above end the module")


if __name__ == "__main__":
    main()
