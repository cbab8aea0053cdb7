"""Prints the policy that the user of the playbooks needs in AWS, as JSON: `make policy`.

make policy ARGS='--account 111122223333 --bucket my-own-bucket'
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

# isort: split
from ansible.module_utils.lab.aws import guard, policy  # noqa: E402 - not before that

# What AWS takes as one policy of a user's, without blanks.
LIMIT = 6144


def main() -> None:
    """Read the command line, print."""
    parser = argparse.ArgumentParser(prog="make policy", description=__doc__)
    parser.add_argument("--account", default="*", help="your account, twelve digits (any)")
    parser.add_argument("--region", default="us-east-1", help="tells China and GovCloud apart")
    parser.add_argument("--bucket", default="", help="lab_bucket, where it is one of your own")
    parser.add_argument("--sessions", action="store_true", help="for lab_access: ssm")
    parser.add_argument("--efs", action="store_true", help="the one beside it for lab_shared: efs")
    parser.add_argument("--short", action="store_true", help="on one line, for the console")
    given = parser.parse_args()
    place = policy.Place(given.account, guard.partition(given.region), given.bucket, given.sessions)
    document = policy.document_of_efs(place) if given.efs else policy.document(place)
    short = json.dumps(document, separators=(",", ":"))
    if len(short) > LIMIT:
        sys.exit(f"The policy has {len(short)} characters, and AWS takes {LIMIT}")
    print(short if given.short else json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
