"""No commit of this repository has ever held a secret."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.contract.conftest import ROOT

# What begins so, or has this form, is a secret whatever it opens.
SECRETS = {
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret key": r"(?i)aws_secret_access_key['\"]?\s*[=:]\s*['\"]?[a-z0-9/+]{40}(?![a-z0-9/])",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*\n[+\- ]?[A-Za-z0-9+/=]{40}",
    "OpenSSH key": r"\bb3BlbnNzaC1rZXktdjE[A-Za-z0-9+/=]{20}",
    "password hash": r"argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{16,}\$[A-Za-z0-9+/]{32,}",
    "token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20}",
    "token in an address": r"[?&]token=[0-9a-f]{32,}",
    "password in an address": r"https?://[^/\s:@'\"{}<>]+:[^/\s:@'\"{}<>$]{8,}@",
}
# The examples of AWS's own documentation, and the sandbox's, which no AWS knows.
EXAMPLES = re.compile(r"EXAMPL|AKIAGPULABSANDBOX|user:password@")


def found(text: str) -> list[str]:
    """Name each secret of a text by its kind and its first characters."""
    return sorted(
        {
            f"{kind}: {match[0][:24]}…"
            for kind, pattern in SECRETS.items()
            for match in re.finditer(pattern, text)
            if not EXAMPLES.search(match[0])
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        "key = AKIA" + "Q" * 16,
        "aws_secret_access_key = " + "aB3/" * 10,
        "+-----BEGIN PRIVATE " + "KEY-----\n+" + "MIGH" * 16,
        "argon2:$argon2" + "id$v=19$m=10240,t=10,p=8$" + "s" * 22 + "$" + "d" * 43,
        "http://127.0.0.1:8888/lab?token=" + "0f" * 24,
        "https://me:" + "hunter22hunter22@example.org/",
    ],
)
def test_a_secret_would_be_found(text: str) -> None:
    assert len(found(text)) == 1


def test_the_history_holds_none() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git history here: this is a copy of the files alone")
    log = subprocess.run(
        ["git", "log", "--all", "--patch", "--no-color", "--no-textconv", "--no-ext-diff"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode(errors="replace")  # fmt: skip
    assert log
    assert found(log) == []
