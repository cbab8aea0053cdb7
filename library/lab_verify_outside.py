#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what only the controller can see of a lab, and the report of it all."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_verify_outside
short_description: See a lab from outside and write its report
description:
  - Connects to the host's public address on ports that should be open and on ports that should
    not, and looks in the bucket for the file that M(lab_verify) wrote through the mount.
  - Compares what the security groups let in with what the host's own firewall does, as
    M(lab_verify) has found it, and looks whether TLS is answered by the certificate that is known.
  - Writes everything into one JSON file and returns it as the lines of a table.
  - Runs on the controller, with boto3 and the AWS settings of the environment.
  - The report is a record of this run, not a state to be kept, so it never counts as a change.
options:
  lab:
    description: The name of the lab.
    type: str
    required: true
  address:
    description: The public address of the host.
    type: str
    required: true
  open_ports:
    description: TCP ports that must answer from here.
    type: list
    elements: int
    default: []
  closed_ports:
    description: TCP ports that must not answer from here.
    type: list
    elements: int
    default: []
  security_groups:
    description: The ids of the host's security groups, to compare with its own firewall.
    type: list
    elements: str
    default: []
  cluster:
    description:
      - The private addresses of the hosts that the security groups let in among themselves, in a
        rule whose source is one of O(security_groups).
    type: list
    elements: str
    default: []
  tls_port:
    description: A TCP port that must answer by TLS; none if not given.
    type: int
  certificate:
    description: The file here with the certificate that O(tls_port) must show.
    type: path
  bucket:
    description: The bucket to look into.
    type: str
  prefix:
    description: What of the bucket is mounted, without outer slashes; empty for all of it.
    type: str
    default: ""
  region:
    description: The bucket's region.
    type: str
  probe:
    description: RV(lab_verify#module:probe), the file to look for.
    type: dict
    default: {}
  results:
    description: RV(lab_verify#module:results), what the host said.
    type: list
    elements: dict
    default: []
  report:
    description: Where the report is written.
    type: path
    required: true
  timeout:
    description: Seconds that one connection may take.
    type: float
    default: 5
attributes:
  check_mode:
    support: full
    details: In check mode nothing is asked and nothing is written.
  diff_mode:
    support: none
author: GPU lab
"""

EXAMPLES = r"""
- name: See the lab from outside
  lab_verify_outside:
    lab: lab
    address: "{{ ansible_host }}"
    open_ports: [22]
    closed_ports: [8888]
    results: "{{ proved.results }}"
    report: .lab/lab/report.json
  delegate_to: localhost
"""

RETURN = r"""
table:
  description: The report as lines to read.
  returned: always
  type: list
  elements: str
failures:
  description: The checks that failed.
  returned: always
  type: list
  elements: str
"""

import datetime
import hashlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import openings
from ansible.module_utils.lab.checks import Result, table

try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    HAS_BOTO3 = True
except ImportError:
    HAS_BOTO3 = False


def see_port(address: str, port: int, wanted: bool, timeout: float) -> Result:
    """Connect to a TCP port; `wanted` says whether it should answer."""
    check = f"port {port} is {'open' if wanted else 'closed'} from here"
    try:
        with socket.create_connection((address, port), timeout) as connection:
            # A forwarder may accept and drop at once; only a connection that stays is open.
            connection.settimeout(1)
            try:
                answered = connection.recv(1) != b""
            except TimeoutError:
                answered = True
    except OSError as error:
        return Result(check, "failed" if wanted else "ok", f"{address}: {error}")
    seen = "it answers" if answered else "it closes the connection at once"
    return Result(check, "ok" if answered == wanted else "failed", f"{address}: {seen}")


def see_certificate(address: str, port: int, known: Path, timeout: float) -> Result:
    """Shake hands, and compare the certificate with the one that was written down here."""
    check = f"port {port} shows the lab's certificate"
    try:
        wanted = ssl.PEM_cert_to_DER_cert(known.read_text().partition("\n")[2])
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # compared below, byte by byte
        with (
            socket.create_connection((address, port), timeout) as plain,
            context.wrap_socket(plain) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
    except (OSError, ValueError) as error:
        return Result(check, "failed", f"{address}: {error}")
    digest = hashlib.sha256(shown).hexdigest().upper()
    pairs = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
    same = shown == wanted
    return Result(
        check, "ok" if same else "failed", f"{'' if same else 'another: '}SHA-256 {pairs}"
    )


def see_agreement(
    client: Any, groups: list[str], cluster: list[str], results: list[dict[str, str]]
) -> Result:
    """Compare the security groups with the host's firewall; `cluster` are their members."""
    check = "security group and host firewall let in the same"
    said = [result["detail"] for result in results if result["check"] == "firewall lets in"]
    if not said:
        return Result(check, "failed", "the host has not said what its firewall lets in")
    try:
        found = client.describe_security_groups(GroupIds=groups)["SecurityGroups"]
    except (BotoCoreError, ClientError) as error:
        return Result(check, "failed", str(error))
    rules = (rule for one in found for rule in one["IpPermissions"])
    group = openings.of_group(rules, dict.fromkeys(groups, cluster))
    differing = openings.differences(group, openings.of_host(said[0]))
    shown = "; ".join(differing) or ", ".join(sorted(map(str, group))) or "nothing"
    return Result(check, "failed" if differing else "ok", shown)


def see_object(client: Any, bucket: str, probe: dict[str, str], prefix: str = "") -> Result:
    """Look for the file written through the mount in the bucket, and delete it."""
    check = "the file written on the host is in the bucket"
    if not probe:
        return Result(check, "failed", "no file was written on the host")
    key = f"{prefix}/{probe['key']}" if prefix else probe["key"]
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        client.delete_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        return Result(check, "failed", str(error))
    same = hashlib.sha256(body).hexdigest() == probe["sha256"]
    where = f"s3://{bucket}/{key}"
    return Result(check, "ok" if same else "failed", where if same else f"{where} differs")


def look(params: dict[str, Any]) -> list[Result]:
    """Make every check that this module was asked for."""
    results = [
        see_port(params["address"], port, wanted, params["timeout"])
        for wanted, ports in ((True, params["open_ports"]), (False, params["closed_ports"]))
        for port in ports
    ]
    if params["tls_port"]:
        known = Path(params["certificate"] or "")
        results.append(
            see_certificate(params["address"], params["tls_port"], known, params["timeout"])
        )
    if params["security_groups"]:
        client = boto3.client("ec2", region_name=params["region"] or None)
        results.append(
            see_agreement(client, params["security_groups"], params["cluster"], params["results"])
        )
    if params["bucket"]:
        client = boto3.client("s3", region_name=params["region"] or None)
        results.append(see_object(client, params["bucket"], params["probe"], params["prefix"]))
    return results


def write_report(params: dict[str, Any], rows: list[tuple[str, Result]]) -> None:
    """Write the report beside its final name and move it there."""
    report = {
        "lab": params["lab"],
        "address": params["address"],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "results": [{"where": where, **result.as_dict()} for where, result in rows],
    }
    target = Path(params["report"])
    new = target.with_suffix(".new")
    new.write_text(json.dumps(report, indent=2) + "\n")
    new.replace(target)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "open_ports": {"type": "list", "elements": "int", "default": []},
            "closed_ports": {"type": "list", "elements": "int", "default": []},
            "security_groups": {"type": "list", "elements": "str", "default": []},
            "cluster": {"type": "list", "elements": "str", "default": []},
            "tls_port": {"type": "int"},
            "certificate": {"type": "path"},
            "bucket": {"type": "str"},
            "prefix": {"type": "str", "default": ""},
            "region": {"type": "str"},
            "probe": {"type": "dict", "default": {}},
            "results": {"type": "list", "elements": "dict", "default": []},
            "report": {"type": "path", "required": True},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, table=[], failures=[])
    if (module.params["bucket"] or module.params["security_groups"]) and not HAS_BOTO3:
        module.fail_json(msg="boto3 is missing on the controller: run scripts/setup.sh python")
    rows = [("host", Result(**given)) for given in module.params["results"]]
    rows += [("outside", result) for result in look(module.params)]
    write_report(module.params, rows)
    failures = [f"{r.check}: {r.detail}" for _, r in rows if r.status == "failed"]
    module.exit_json(changed=False, table=table(rows), failures=failures)


if __name__ == "__main__":
    main()
