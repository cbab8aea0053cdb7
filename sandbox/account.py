"""The sandbox's administrator: its keys, and its user in moto's IAM."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass

from sandbox.settings import ACCOUNT_ID, REGION, Settings

KEY_ID_PREFIX = "AKIAGPULABSANDBOX"  # with the slot behind it as long as a real one
USER_NAME = "sandbox-admin"
_SECRET_LENGTH = 40


@dataclass(frozen=True)
class AdminKey:
    """The key pair of the administrator."""

    access_key_id: str
    secret_access_key: str


def admin_key(settings: Settings) -> AdminKey:
    """Read the slot's key, or make one. Kept 0600: who has it can start containers as root."""
    path = settings.state_dir / "secret_access_key"
    if not path.exists():
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = secrets.token_urlsafe(_SECRET_LENGTH)[:_SECRET_LENGTH]
        scratch = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
        try:
            os.link(scratch, path)  # of two at once the first one's stays
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return AdminKey(f"{KEY_ID_PREFIX}{settings.slot:03d}", path.read_text(encoding="ascii"))


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables that the playbooks and any AWS client need."""
    key = admin_key(settings)
    # Who connects from here is 127.0.0.1 to the security groups and, as the forwarder connects anew
    # over the bridge, this machine's address there to the host's own firewall.
    callers = ("127.0.0.1", settings.vpc_network[1])
    return {
        "AWS_ENDPOINT_URL": settings.endpoint_url,
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "GPULAB_CALLER_CIDR": ",".join(f"{address}/32" for address in callers),
        "GPULAB_SANDBOX_SLOT": str(settings.slot),
    }


def ensure_admin(settings: Settings) -> None:
    """Let the administrator exist in moto's IAM, with the key above and all permissions."""
    from moto.iam.models import iam_backends  # noqa: PLC0415  the command line needs no moto

    key, backend = admin_key(settings), iam_backends[ACCOUNT_ID]["aws"]
    if USER_NAME not in backend.users:
        backend.create_user(REGION, USER_NAME)
        allow_all = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [allow_all]})
        backend.put_user_policy(USER_NAME, "all", document)
        backend.create_access_key(USER_NAME)
    access_key = backend.get_user(USER_NAME).access_keys[0]
    access_key.access_key_id = key.access_key_id
    access_key.secret_access_key = key.secret_access_key
