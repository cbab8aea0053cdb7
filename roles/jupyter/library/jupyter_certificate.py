#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the key and the self-signed certificate that Jupyter shows by TLS."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: jupyter_certificate
short_description: Keep the key and the self-signed certificate that Jupyter shows by TLS
version_added: "0.1.0"
description:
  - Makes C(jupyter.key) (ECDSA P-256) and C(jupyter.crt) in a folder, with openssl. The folder is
    on the data volume, so that a host which is built anew shows the certificate that is known.
  - A key that is there is kept. The certificate is made anew from it where it is missing, belongs
    to another key or ends within 30 days; its fingerprint changes then.
  - Restart the server when this reports a change.
attributes:
  check_mode:
    support: full
    description: Nothing is written; where a certificate would be made there is no fingerprint yet.
  diff_mode:
    support: full
    description: Says what is made, never the key.
options:
  folder:
    description: The folder, which is made for root alone (0700), as is the one above it.
    type: path
    required: true
  names:
    description: Names and addresses that the certificate is for, the first one its subject.
    type: list
    elements: str
    required: true
  days:
    description: How long a new certificate holds. Clients of Apple take none beyond 825.
    type: int
    default: 820
author: GPU lab
"""

EXAMPLES = r"""
- name: Keep the certificate
  jupyter_certificate:
    folder: /data/.lab/jupyter
    names: [lab, localhost, 127.0.0.1]
  notify: Restart Jupyter
"""

RETURN = r"""
made:
  description: What was made.
  type: list
  elements: str
  returned: success
  sample: [certificate]
certificate:
  description: The certificate (PEM); empty in check mode where there is none yet.
  type: str
  returned: success
fingerprint:
  description: Its SHA-256 fingerprint as browsers show it; empty like I(certificate).
  type: str
  returned: success
  sample: "AB:01:…"
"""

import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

RENEW_SECONDS = 30 * 86400
CURVE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


class CertificateError(Exception):
    """What stands in the way, in one sentence."""


# Runs openssl with these arguments; answers with its status and what it prints.
OpenSsl = Callable[[Sequence[str]], tuple[int, str]]


def fingerprint(pem: str) -> str:
    """Return the SHA-256 fingerprint of a certificate; empty where there is none."""
    if not pem:
        return ""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def alternative_names(names: Sequence[str]) -> str:
    """Write the names as openssl wants them: ``DNS:lab,IP:127.0.0.1``."""
    return ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def make_plan(key: Path, certificate: Path, openssl: OpenSsl) -> list[str]:
    """Name what is missing or has come to its end: ``key``, ``certificate``."""
    status, public = openssl(["pkey", "-in", str(key), "-pubout"]) if key.exists() else (1, "")
    if status:
        return ["key", "certificate"]
    if not certificate.exists():
        return ["certificate"]
    of = ["x509", "-in", str(certificate), "-noout"]
    same = openssl([*of, "-pubkey"]) == (0, public)
    lasts = openssl([*of, "-checkend", str(RENEW_SECONDS)])[0] == 0
    return [] if same and lasts else ["certificate"]


class Files:
    """The key and the certificate, each written whole or not at all."""

    def __init__(self, module: AnsibleModule, openssl: OpenSsl) -> None:
        self.module = module
        self.openssl = openssl
        self.folder = Path(module.params["folder"])
        self.key = self.folder / "jupyter.key"
        self.certificate = self.folder / "jupyter.crt"

    def keep_modes(self) -> bool:
        """Put right who may read them; whether anything was wrong."""
        changed = False
        for path, mode in ((self.folder, "0700"), (self.key, "0600"), (self.certificate, "0644")):
            if path.exists():
                attributes = {"path": str(path), "owner": "root", "group": "root", "mode": mode}
                attributes |= {"secontext": [None, None, None], "attributes": None}
                changed |= self.module.set_fs_attributes_if_different(attributes, changed)
        return changed

    def make_folder(self) -> bool:
        """Make the folder; whether it was missing."""
        if self.folder.is_dir():
            return False
        if not self.module.check_mode:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700)
        return True

    def make(self, what: str) -> None:
        """Make the key, or the certificate from it."""
        days, names = self.module.params["days"], self.module.params["names"]
        if what == "key":
            self._write(self.key, ["genpkey", *CURVE])
            return
        self._write(
            self.certificate,
            ["req", "-x509", "-key", str(self.key), "-days", str(days), "-subj", f"/CN={names[0]}",
             "-addext", f"subjectAltName={alternative_names(names)}",
             "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", "keyUsage=critical,digitalSignature",
             "-addext", "extendedKeyUsage=serverAuth"],
        )  # fmt: skip

    def _write(self, path: Path, command: list[str]) -> None:
        handle, new = tempfile.mkstemp(prefix=".lab-", dir=path.parent)  # 0600 from its birth
        os.close(handle)
        status, said = self.openssl([*command, "-out", new])
        if status:
            Path(new).unlink()
            why = said.strip().splitlines()[-1:] or ["no word"]
            raise CertificateError(f"openssl made no {path.name}: {why[0]}")
        with Path(new).open("rb") as stream:
            os.fsync(stream.fileno())
        self.module.atomic_move(new, str(path))


def run(module: AnsibleModule) -> dict[str, Any]:
    """Decide, carry out, and describe the change."""

    def openssl(arguments: Sequence[str]) -> tuple[int, str]:
        status, out, err = module.run_command(["openssl", *arguments])
        return status, out if status == 0 else err or out

    files = Files(module, openssl)
    made = (["folder"] if files.make_folder() else []) + make_plan(
        files.key, files.certificate, openssl
    )
    for what in made:
        if not module.check_mode and what != "folder":
            files.make(what)
    modes = files.keep_modes()
    pem = "" if module.check_mode and made else files.certificate.read_text()
    return {
        "changed": bool(made) or modes,
        "made": made,
        "certificate": pem,
        "fingerprint": fingerprint(pem),
        "diff": {"before": "", "after": "".join(f"{what}: made\n" for what in made)},
    }


def main() -> NoReturn:
    """Speak with Ansible."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "days": {"type": "int", "default": 820},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except CertificateError as error:
        module.fail_json(msg=str(error))
    raise AssertionError("unreachable: both of the above end the module")


if __name__ == "__main__":
    main()
