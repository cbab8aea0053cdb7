"""What Lynis would have otherwise and the lab leaves as it is, each with its reason."""

from __future__ import annotations

from benchmarks.hardening.lynis import Finding

# By the start of `test:detail`, since one test may have several findings.
REASONS: dict[str, str] = {
    "ACCT-9622": "root's accounts of every process would say what a sole user knows",
    "ACCT-9626": "`playbooks/status.yml` and Jupyter show the load; a history of it is not kept",
    "ACCT-9628": "the journal has logins and sudo; audit rules are for those who have a policy",
    "AUTH-9230": "nobody has a password: logins are by key alone",
    "AUTH-9262": "nobody has a password",
    "AUTH-9284": "the locked accounts are Debian's own, of its services",
    "AUTH-9286": "nobody has a password, which could age",
    "AUTH-9328": "root's umask of 027 would hide what roles install from the user",
    "BANN-7126": "Debian's own file: changed, it would keep updates of its package out",
    "BANN-7130": "Debian's own file, as the one above",
    "BOOT-5180": "systemd has no runlevels",
    "BOOT-5264": "the lab's are below 4 (`tests/contract/test_exposure.py`)",
    "DEB-0280": "a TMPDIR of each user's own confuses `sudo` and tmux",
    "DEB-0810": "it asks a person; updates here are unattended",
    "DEB-0811": "it shows changes to a person; updates here are unattended",
    "DEB-0831": "it restarts services by itself, and Jupyter's kernels with them",
    "DEB-0880": "there is no password to guess; new connections are limited by the firewall",
    "FILE-6310": "one system disk, made by the image; data is on a volume of its own",
    "FILE-7524": "modes of Debian's own files, which its packages set again",
    "FINT-4350": "a host that is doubted is rebuilt, not repaired",
    "HRDN-7222": "the GPU's driver is built on the host",
    "HRDN-7230": "scanners look for what is known on mail and file servers",
    "KRNL-5788": "a container has no kernel of its own; a host in EC2 has",
    "KRNL-5830": "as above",
    "LOGG-2154": "one host, whose journal is kept over reboots; there is nowhere else",
    "LYNIS": "Debian's Lynis, as old as the release",
    "NAME-4028": "EC2's resolver gives the name",
    "NETW-3200": "they cannot be loaded (`/etc/modprobe.d/lab-unused.conf`), which it does not see",
    "PKGS-7370": "a host that is doubted is rebuilt, not repaired",
    "PKGS-7392": "of the image; they come within a day by unattended-upgrades",
    "PKGS-7394": "`apt list --upgradable` says the same",
    "SSH-7408:AllowTcpForwarding": "Jupyter's tunnel; only from the user to the host",
    "SSH-7408:MaxSessions": "VS Code and multiplexed connections take more than two",
    "SSH-7408:Port": "another port is no protection, and the address is open to the owner alone",
}


def reason(finding: Finding) -> str:
    """Say why a finding is left; empty where nobody has said so yet."""
    named = f"{finding.test}:{finding.detail}"
    return next((why for known, why in REASONS.items() if named.startswith(known)), "")
