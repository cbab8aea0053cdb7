"""The command: makes a lab in a sandbox of its own and has Prowler look at it.

Ends with 1 where something of ours fails that is not to, or that nobody gave a reason for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.audit_aws import findings
from benchmarks.audit_aws.reasons import REASONS
from benchmarks.converge.__main__ import ROOT, BenchmarkError, fresh, run, sandbox

TOOLS = ROOT / ".cache" / "prowler"
SERVICES = ("ec2", "s3", "iam")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_aws", description=__doc__)
    parser.add_argument("--slot", default="7", help="slot of the sandbox (%(default)s)")
    parser.add_argument("--lab", default="audited", help="name of the lab (%(default)s)")
    return parser.parse_args(words)


def install() -> Path:
    """Have Prowler in an environment of its own; return its program. Raises BenchmarkError."""
    pins = ROOT / "requirements-audit.txt"
    done = TOOLS / "pins"
    if not done.exists() or done.read_text() != pins.read_text():
        shutil.rmtree(TOOLS, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(TOOLS)], os.environ)
        pip = [str(TOOLS / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--requirement", str(pins)], os.environ)
        done.write_text(pins.read_text())
    return TOOLS / "bin/prowler"


def audit(program: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Run Prowler; it ends with 3 where checks failed, which is no error."""
    shutil.rmtree(folder, ignore_errors=True)
    words = [
        str(program), "aws", "--services", *SERVICES, "--region", "us-east-1",
        "--output-formats", "csv", "--output-directory", str(folder), "--output-filename", "lab",
        "--no-banner", "--only-logs", "--log-level", "CRITICAL",
    ]  # fmt: skip
    done = subprocess.run(
        words, env=environment, text=True, check=False, timeout=1800,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode not in (0, 3):
        raise BenchmarkError(f"prowler ended with {done.returncode}:\n{done.stdout[-3000:]}")


def main() -> int:
    """Make a lab, look at it, take it away."""
    wanted = parse(sys.argv[1:])
    program = install()
    environment = sandbox(wanted.slot)
    folder = ROOT / ".cache" / "audit-aws"
    try:
        fresh(wanted.lab, environment)
        audit(program, environment, folder)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        run([sys.executable, "-m", "sandbox", "down"], environment)
        shutil.rmtree(ROOT / ".lab" / wanted.lab, ignore_errors=True)
    found = findings.read(folder)
    print(findings.table(found, REASONS))
    bad = findings.broken(found, REASONS)
    for line in bad:
        print(f"broken: {line}", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
