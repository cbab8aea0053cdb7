"""The security group and the host's firewall are compared rule by rule."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.lab.openings import differences, of_group, of_host

SSH = "tcp 22 0.0.0.0/0"


def permission(ports: tuple[int, int], *sources: str, protocol: str = "tcp") -> dict[str, Any]:
    return {
        "IpProtocol": protocol,
        "FromPort": ports[0],
        "ToPort": ports[1],
        "IpRanges": [{"CidrIp": source} for source in sources if "." in source],
        "Ipv6Ranges": [{"CidrIpv6": source} for source in sources if ":" in source],
        "UserIdGroupPairs": [{"GroupId": source} for source in sources if source[:3] == "sg-"],
    }


ME = permission((22, 22), "198.51.100.7/32")
PUBLIC = permission((8888, 8888), "198.51.100.7/32")


@pytest.mark.parametrize(
    ("group", "host"),
    [
        ([ME], SSH),
        ([ME, PUBLIC], f"{SSH}, tcp 8888 198.51.100.7/32"),
        ([permission((6817, 6819), "10.0.0.0/8")], "tcp 6817-6819 10.0.0.0/8"),
        ([permission((53, 53), "2001:db8::/32", protocol="udp")], "udp 53 2001:db8::/32"),
        ([], "nothing"),
    ],
)
def test_they_agree(group: list[dict[str, Any]], host: str) -> None:
    assert differences(of_group(group), of_host(host)) == []


@pytest.mark.parametrize(
    ("group", "host", "said"),
    [
        ([ME, PUBLIC], SSH, "the security group alone lets in tcp 8888 198.51.100.7/32"),
        ([ME], f"{SSH}, tcp 80 0.0.0.0/0", "the host's firewall alone lets in tcp 80 0.0.0.0/0"),
        # Only SSH may be wider on the host.
        (
            [ME, PUBLIC],
            f"{SSH}, tcp 8888 0.0.0.0/0",
            "the host's firewall alone lets in tcp 8888 0.0.0.0/0",
        ),
        ([], SSH, f"the host's firewall alone lets in {SSH}"),
        ([ME], f"{SSH}, tcp 22 ::/0", "the host's firewall alone lets in tcp 22 ::/0"),
        (
            [ME, permission((0, 65535), "sg-0a")],
            SSH,
            "the security group alone lets in tcp 0-65535 sg-0a",
        ),
        (
            [ME, {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}],
            SSH,
            "the security group alone lets in -1 all 10.0.0.0/8",
        ),
    ],
)
def test_they_differ(group: list[dict[str, Any]], host: str, said: str) -> None:
    assert differences(of_group(group), of_host(host)) == [said]


AMONG = permission((6817, 6818), "sg-0a")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (f"{SSH}, tcp 6817-6818 10.0.0.4, tcp 6817-6818 10.0.0.5", []),
        (
            f"{SSH}, tcp 6817-6818 10.0.0.4",
            ["the security group alone lets in tcp 6817-6818 10.0.0.5"],
        ),
        (
            f"{SSH}, tcp 6817-6818 10.0.0.0/8",
            ["the host's firewall alone lets in tcp 6817-6818 10.0.0.0/8"],
        ),
    ],
)
def test_a_cluster_lets_in_its_own_hosts(host: str, said: list[str]) -> None:
    group = of_group([ME, AMONG], {"sg-0a": ["10.0.0.4", "10.0.0.5"]})
    assert differences(group, of_host(host)) == said


def test_a_group_without_hosts_stays_a_group() -> None:
    group = of_group([AMONG], {"sg-0a": []})
    assert differences(group, set()) == ["the security group alone lets in tcp 6817-6818 sg-0a"]
