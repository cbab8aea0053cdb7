"""A lab's whole life through the sandbox, in order: each test goes on where the last one ended."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import access, browser, doors, rebuild, secrets
from tests.e2e.conftest import KEPT, ROOT, Lab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

TRAIN = "/data/notebooks/examples/train_fashion_mnist.py"
# What a container on a machine without a GPU cannot show; each says so.
NOT_IN_A_CONTAINER = {
    "instance store", "clock is synchronised", "kernel's parameters", "GPU driver",
    "torch on the GPU",
}  # fmt: skip
# Quotes, dollars, templates, unicode, a backslash: and a piece that no shell or YAML would alter.
CORE = "correct-horse-battery"
DIFFICULT = f'it\'s "$HOME" {{{{ 7*7 }}}} `ünï` \\n #1 {CORE}'
PUBLIC = ("-e", "lab_access=public")
EXPECTED_IMAGES = {"train": 60_000, "test": 10_000}


def instances(lab: Lab) -> list[dict[str, Any]]:
    filters = [{"Name": "tag:Lab", "Values": [lab.name]}]
    pages = lab.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return [i for r in pages for i in r["Instances"] if i["State"]["Name"] != "terminated"]


def answers_on_22(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def test_check_mode_on_an_empty_account_makes_nothing(lab: Lab) -> None:
    lab.play("site.yml", "--check", "--diff")
    assert instances(lab) == []
    assert lab.client("s3").list_buckets()["Buckets"] == []


def test_bad_variables_are_refused_before_anything_is_made(lab: Lab) -> None:
    run = lab.play("site.yml", "-e", "lab_instance_type=g4dn.tiny", check=False)
    assert run.status != 0
    assert "g4dn.tiny" in run.output
    run = lab.play("site.yml", "-e", "lab_access=ssm", check=False)
    assert run.status != 0
    assert "the sandbox has no Session Manager" in " ".join(run.output.split())
    assert instances(lab) == []


def test_one_command_builds_the_lab(lab: Lab) -> None:
    with secrets.watching_processes() as commands:
        run = lab.play("site.yml", "-vvv")
    lab.times["build"] = run.seconds
    assert secrets.told(secrets.known(lab), "\n".join(commands)) == []
    assert run.total("failed") == run.total("unreachable") == 0
    for said in (
        "ssh -F .lab/e2e/ssh_config e2e",
        "jupyter_password",
        "playbooks/stop.yml",
        "hour",
    ):
        assert said in run.output, f"the closing block does not say '{said}'"


def test_everything_on_the_host_was_proved(lab: Lab) -> None:
    report = json.loads((lab.folder / "report.json").read_text())
    statuses = Counter(result["status"] for result in report["results"])
    assert statuses["failed"] == 0
    assert statuses["ok"] >= 15
    skipped = {result["check"] for result in report["results"] if result["status"] == "skipped"}
    assert skipped == NOT_IN_A_CONTAINER


def test_the_images_are_there(lab: Lab) -> None:
    for part, count in EXPECTED_IMAGES.items():
        found = lab.ssh(f"find /data/datasets/fashion-mnist/{part} -name '*.png' | wc -l")
        assert int(found) == count


def test_archives_unpack_straight_out_of_the_bucket(lab: Lab) -> None:
    s3, other = lab.client("s3"), "gpulab-e2e-of-another"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=other, Key="any.zip", Body=b"PK")
    lab.play("tests/e2e/unpack_from_s3.yml", "-e", f"other_bucket={other}")
    # The sandbox lays its data sets into every new bucket.
    for entry in s3.list_objects_v2(Bucket=other)["Contents"]:
        s3.delete_object(Bucket=other, Key=entry["Key"])
    s3.delete_bucket(Bucket=other)


def test_again_changes_nothing(lab: Lab) -> None:
    run = lab.play("site.yml")
    lab.times["again"] = run.seconds
    assert run.total("changed") == 0, re.findall(r"^changed:.*", run.output, re.MULTILINE)


def test_the_manifest_is_written_and_compared(lab: Lab) -> None:
    lab.play("playbooks/manifest.yml")
    path = f".lab/{lab.name}/manifest.json"
    assert json.loads((lab.folder / "manifest.json").read_text())
    assert lab.play("playbooks/manifest.yml", "-e", f"compare={path}").total("changed") == 0
    assert lab.play("playbooks/manifest.yml").total("changed") == 0


def test_training_outlives_a_kill(lab: Lab) -> None:
    start = f"tmux new-session -d -s train '/opt/lab/venv/bin/python {TRAIN} >~/train.log 2>&1'"
    lab.ssh("rm -rf /data/work/fashion-mnist ~/train.log; " + start)
    wait_for(lab, "ls /data/work/fashion-mnist/checkpoint.pt", 600)
    lab.ssh("pkill -KILL -f [t]rain_fashion_mnist.py; sleep 1; tmux kill-session -t train || true")
    lab.ssh("mv ~/train.log ~/train-killed.log; " + start)
    wait_for(lab, "! tmux has-session -t train", 900)
    log = lab.ssh("cat ~/train.log")
    assert re.search(r"resum", log), log
    accuracies = [float(number) for number in re.findall(r"test accuracy[^0-9]*([0-9.]+) ?%", log)]
    assert accuracies and accuracies[-1] >= 85, log
    (KEPT / "train.log").write_text(lab.ssh("cat ~/train-killed.log") + "--- killed ---\n" + log)


def wait_for(lab: Lab, command: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        done = lab.ssh(f"if {command} >/dev/null 2>&1; then echo yes; fi")
        if done.strip() == "yes":
            return
        assert time.monotonic() < deadline, f"{command}: not true within {seconds} s"
        time.sleep(3)


def test_the_plot_is_in_the_bucket(lab: Lab) -> None:
    s3 = lab.client("s3")
    bucket = s3.list_buckets()["Buckets"][0]["Name"]
    found = s3.list_objects_v2(Bucket=bucket, Prefix="results/")["Contents"]
    plots = [entry["Key"] for entry in found if entry["Key"].endswith(".png")]
    assert plots, found
    image = s3.get_object(Bucket=bucket, Key=plots[0])["Body"].read()
    assert image.startswith(b"\x89PNG")
    assert any(entry["Key"].endswith(".pt") for entry in found), found


def test_a_browser_works_in_jupyter(lab: Lab) -> None:
    browser.use_jupyter(lab)
    for picture in ("jupyter.png", "terminal.png"):
        assert (KEPT / picture).read_bytes().startswith(b"\x89PNG")


def compare_doors(lab: Lab, wanted: set[int]) -> None:
    host = instances(lab)[0]
    groups = [group["GroupId"] for group in host["SecurityGroups"]]
    found = lab.client("ec2").describe_security_groups(GroupIds=groups)["SecurityGroups"]
    doors.compare(lab, host, [rule for group in found for rule in group["IpPermissions"]], wanted)


def test_only_ssh_is_open(lab: Lab) -> None:
    compare_doors(lab, {22})


def test_jupyter_goes_public_with_a_new_password(lab: Lab) -> None:
    old = (lab.folder / "jupyter_password").read_text().strip()
    said = []

    def switch() -> str:
        with secrets.watching_processes() as commands:
            said.append(lab.play("site.yml", "-vvv", *PUBLIC, JUPYTER_PASSWORD=DIFFICULT).output)
        assert secrets.told(secrets.known(lab, DIFFICULT, CORE), "\n".join(commands)) == []
        return str(instances(lab)[0]["PublicIpAddress"])

    browser.go_public(lab, old, DIFFICULT, switch)
    fingerprint = (lab.folder / "jupyter.crt").read_text().splitlines()[0]
    assert fingerprint in said[0], "the closing block does not name the certificate"
    assert lab.play("site.yml", *PUBLIC, JUPYTER_PASSWORD=DIFFICULT).total("changed") == 0
    report = json.loads((lab.folder / "report.json").read_text())
    seen = {result["check"]: result["status"] for result in report["results"]}
    assert seen["security group and host firewall let in the same"] == "ok"
    assert seen["port 8888 shows the lab's certificate"] == "ok"
    compare_doors(lab, {22, 8888})


def test_secrets_are_told_to_nobody(lab: Lab) -> None:
    known = secrets.known(lab, DIFFICULT, CORE)
    assert secrets.told(known, secrets.printed()) == []
    assert secrets.readable_by_nobody(lab, known) == ""
    assert secrets.loose_here(lab) == []
    ec2 = lab.client("ec2")
    asked = {"InstanceId": instances(lab)[0]["InstanceId"], "Attribute": "userData"}
    data = ec2.describe_instance_attribute(**asked)["UserData"].get("Value", "")
    told = json.dumps([base64.b64decode(data).decode(), *instances(lab)], default=str)
    assert secrets.told(known, told) == []


def test_jupyter_goes_back_behind_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    """With the former password again, out of a vault."""
    key, vault = tmp_path / "key", tmp_path / "vault.yml"
    key.write_text("the vault's own password\n")
    password = (lab.folder / "jupyter_password").read_text().strip()
    vault.write_text(f"jupyter_password: {password}\n")
    with_vault = ["--vault-password-file", str(key)]
    subprocess.run(["ansible-vault", "encrypt", *with_vault, str(vault)], cwd=ROOT, check=True)
    assert password not in vault.read_text()
    assert lab.play("site.yml", *with_vault, "-e", f"@{vault}").total("changed") > 0
    compare_doors(lab, {22})
    browser.log_in_again(lab, password)


def test_check_mode_on_a_finished_lab_sees_nothing_to_do(lab: Lab) -> None:
    assert lab.play("site.yml", "--check").total("changed") == 0


def test_folders_go_there_and_back(lab: Lab, tmp_path: Path) -> None:
    access.copy_a_folder_there_and_back(lab, tmp_path)


def test_the_tunnel_opens_once(lab: Lab) -> None:
    access.open_the_tunnel(lab)


def test_vs_code_reaches_its_server(lab: Lab) -> None:
    access.reach_a_port_as_vs_code_does(lab)


def test_a_host_without_an_open_port_is_reached_by_a_session(lab: Lab, tmp_path: Path) -> None:
    access.go_through_session_manager(lab, instances(lab)[0]["InstanceId"], tmp_path)


def test_another_host_key_is_refused(lab: Lab) -> None:
    access.refuse_another_host_key(lab, instances(lab)[0]["InstanceId"])


def test_stop_start_and_a_new_address(lab: Lab) -> None:
    before = instances(lab)[0]["PublicIpAddress"]
    lab.play("playbooks/stop.yml")
    assert [i["State"]["Name"] for i in instances(lab)] == ["stopped"]
    assert not answers_on_22(before)
    assert lab.play("playbooks/stop.yml").total("changed") == 0
    assert "stopped" in lab.play("playbooks/status.yml").output
    lab.play("playbooks/start.yml")
    after = instances(lab)[0]["PublicIpAddress"]
    assert after != before
    assert answers_on_22(after)
    assert lab.ssh("cat /data/datasets/fashion-mnist/README.txt | head -c 1")
    lab.ssh("timeout 50 sh -c 'until mountpoint --quiet /s3; do sleep 0.5; done'")
    shown = lab.play("playbooks/status.yml").output
    assert re.search(r"/s3: ok,\s+gpulab-\S+,\s+watched\s+since", shown)
    assert lab.play("playbooks/start.yml").total("changed") == 0
    lab.play("playbooks/verify_host.yml")


def test_an_image_has_no_secret_and_a_new_host_from_it_is_the_same(lab: Lab) -> None:
    rebuild.bake_and_rebuild(lab, lab.client("ec2"))
    rebuild.prune(lab, lab.client("ec2"))


def test_aws_takes_the_capacity_back(lab: Lab) -> None:
    rebuild.take_the_capacity_back(lab, lab.client("ec2"))


def test_destroy_wants_the_name(lab: Lab) -> None:
    assert lab.play("playbooks/destroy.yml", "-e", "confirm=other", check=False).status != 0
    assert lab.play("playbooks/destroy.yml", check=False).status != 0
    assert len(instances(lab)) == 1


def test_destroy_leaves_nothing_but_what_it_names(lab: Lab) -> None:
    bucket = lab.client("s3").list_buckets()["Buckets"][0]["Name"]
    run = lab.play("playbooks/destroy.yml", "-e", f"confirm={lab.name}")
    assert instances(lab) == []
    volumes = lab.client("ec2").describe_volumes()["Volumes"]
    assert len(volumes) == 1, volumes
    assert volumes[0]["VolumeId"] in run.output
    assert bucket in run.output
    extra = ["-e", "delete_data=true", "-e", f"delete_bucket={bucket}"]
    lab.play("playbooks/destroy.yml", "-e", f"confirm={lab.name}", *extra)
    assert leftovers(lab) == {}
    again = lab.play("playbooks/destroy.yml", "-e", f"confirm={lab.name}", *extra)
    assert again.total("changed") == 0


def leftovers(lab: Lab) -> dict[str, object]:
    ec2, iam = lab.client("ec2"), lab.client("iam")
    ours = f"name=gpulab-sandbox-{os.environ['GPULAB_SANDBOX_SLOT']}-i-"
    found = {
        "instances": instances(lab),
        "volumes": ec2.describe_volumes()["Volumes"],
        "keys": ec2.describe_key_pairs()["KeyPairs"],
        "addresses": ec2.describe_addresses()["Addresses"],
        "groups": [
            group["GroupName"]
            for group in ec2.describe_security_groups()["SecurityGroups"]
            if group["GroupName"] != "default"
        ],
        "roles": [role for role in iam.list_roles()["Roles"] if "gpulab" in role["RoleName"]],
        "profiles": iam.list_instance_profiles()["InstanceProfiles"],
        "buckets": lab.client("s3").list_buckets()["Buckets"],
        "containers": subprocess.run(
            ["docker", "ps", "-aq", "--filter", ours],
            capture_output=True, text=True, check=True,
        ).stdout.split(),
    }  # fmt: skip
    return {kind: things for kind, things in found.items() if things}
