"""The command: Lynis on a bare host and on the same host with the lab on it, in a sandbox.

Ends with 1 where the index after is below the goal, or something is left that
`left.py` gives no reason for.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence

from benchmarks.converge.__main__ import ROOT, BenchmarkError, fresh, play, run, sandbox, ssh
from benchmarks.hardening import left, lynis

GOAL = 75


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hardening", description=__doc__)
    parser.add_argument("--slot", default="7", help="slot of the sandbox (%(default)s)")
    parser.add_argument("--lab", default="bench-hardening", help="name of the lab (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the host up")
    return parser.parse_args(words)


def audit(lab: str, environment: Mapping[str, str]) -> lynis.Report:
    """Run Lynis on a lab's host. Raises BenchmarkError."""
    try:
        return lynis.read(ssh(lab, lynis.AUDIT, environment)[1])
    except ValueError as error:
        raise BenchmarkError(str(error)) from error


def table(before: lynis.Report, after: lynis.Report) -> str:
    """Write both indices and what is left with its reason, as the README shows it."""
    rows = [
        f"Lynis {after.version}, {after.tests} tests",
        "",
        "| | before | after |",
        "|---|---|---|",
        f"| hardening index | {before.index} | {after.index} |",
        f"| warnings | {len(before.warnings)} | {len(after.warnings)} |",
        f"| suggestions | {len(before.suggestions)} | {len(after.suggestions)} |",
        "",
        "| Left | What Lynis says | Why |",
        "|---|---|---|",
    ]
    for finding in (*after.warnings, *after.suggestions):
        said = f"{finding.text}: {finding.detail}" if finding.detail else finding.text
        rows.append(f"| {finding.test} | {said} | {left.reason(finding) or '**no reason**'} |")
    return "\n".join(rows)


def missed(after: lynis.Report) -> list[str]:
    """Say what was promised and is not so."""
    found = (*after.warnings, *after.suggestions)
    said = [f"{one.test} is left without a reason" for one in found if not left.reason(one)]
    if after.index < GOAL:
        said.append(f"the index is {after.index}, the goal {GOAL}")
    return said


def main() -> int:
    """Audit, build, audit again; 1 where a goal was missed, 2 where there are no figures."""
    wanted = parse(sys.argv[1:])
    environment = sandbox(wanted.slot)
    try:
        fresh(wanted.lab, environment)
        before = audit(wanted.lab, environment)
        play("configure_host", wanted.lab, environment)
        after = audit(wanted.lab, environment)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if not wanted.keep:
            run([sys.executable, "-m", "sandbox", "down"], environment)
            shutil.rmtree(ROOT / ".lab" / wanted.lab, ignore_errors=True)
    print(table(before, after))
    for line in missed(after):
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(missed(after)))


if __name__ == "__main__":
    sys.exit(main())
