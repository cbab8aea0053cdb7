"""Lynis on a host: installed from Debian, run once, and its report read."""

from __future__ import annotations

from dataclasses import dataclass

# What judges the kernel and the machine under a container, which are not the host's: sysctl, USB
# ports, the security module. Left out before and after.
NOT_THE_HOSTS = ("KRNL-6000", "USB-3000", "MACF-6290")
# Lynis ends with other than 0 where it has warnings.
AUDIT = f"""set -e
export DEBIAN_FRONTEND=noninteractive
if ! test -x /usr/sbin/lynis; then
    sudo apt-get update -qq
    sudo -E apt-get install -y -qq --no-install-recommends lynis
fi >/dev/null 2>&1
printf 'skip-test=%s\\n' {" ".join(NOT_THE_HOSTS)} | sudo tee /etc/lynis/custom.prf >/dev/null
sudo lynis audit system --quick --no-colors --quiet >/dev/null 2>&1 || true
sudo cat /var/log/lynis-report.dat
"""


@dataclass(frozen=True)
class Finding:
    """One warning or suggestion; `detail` says of which setting, and may be empty."""

    test: str
    text: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What Lynis has found; the index is out of 100."""

    version: str
    index: int
    tests: int
    warnings: tuple[Finding, ...]
    suggestions: tuple[Finding, ...]


def read(text: str) -> Report:
    """Read a report; raises ValueError where it holds no index, as of an audit that broke off."""
    pairs = [line.partition("=")[::2] for line in text.splitlines() if "=" in line]
    single = dict(pairs)
    if not single.get("hardening_index", "").isdigit():
        raise ValueError("the report of Lynis holds no hardening_index")
    return Report(
        version=single.get("lynis_version", ""),
        index=int(single["hardening_index"]),
        tests=int(single.get("lynis_tests_done", "0")),
        warnings=tuple(_finding(value) for name, value in pairs if name == "warning[]"),
        suggestions=tuple(_finding(value) for name, value in pairs if name == "suggestion[]"),
    )


def _finding(value: str) -> Finding:
    test, text, detail = (*value.split("|"), "", "")[:3]
    return Finding(test, text, "" if detail == "-" else detail)
