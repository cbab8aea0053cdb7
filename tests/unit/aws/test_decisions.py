"""Prices, zones, quotas, images: tables of cases without an AWS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import image, places, quota
from ansible.module_utils.lab.aws.findings import Findings
from ansible.module_utils.lab.aws.prices import price
from ansible.module_utils.lab.aws.session import explain
from ansible.module_utils.lab.aws.things import Seen, Subnet

from tests.unit.aws.kit import PRICES, instance, volume, wish

EMPTY = Seen((), (), (), None, (), None, None, None)
SUBNETS = tuple(
    Subnet(f"subnet-{zone}", f"us-east-1{zone}", "vpc-1", default=True, public=True)
    for zone in "cab"
)


def test_a_price_is_the_sum_of_its_parts() -> None:
    cost = price(PRICES, "us-east-1", "g4dn.xlarge", 160)
    assert cost.stopped_month == pytest.approx(12.80)
    assert cost.hour == pytest.approx(0.526 + 0.005 + 12.80 / 730)
    assert cost.running == "$0.549 an hour"
    assert PRICES["date"] in cost.note


def test_another_region_is_said_to_differ() -> None:
    assert "eu-west-1 may differ" in price(PRICES, "eu-west-1", "g4dn.xlarge", 1).note


def test_a_type_without_a_price_says_so() -> None:
    assert price(PRICES, "us-east-1", "m9z.huge", 1).running == "not in the price table"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("g4dn.xlarge", "L-DB2E81BA"),
        ("gr6.4xlarge", "L-DB2E81BA"),
        ("g6f.large", "L-DB2E81BA"),
        ("p5.48xlarge", "L-417A185B"),
        ("t3.micro", "L-1216C47A"),
        ("inf2.xlarge", ""),
        ("trn1.2xlarge", ""),
        ("mac1.metal", ""),
    ],
)
def test_which_quota_a_type_counts_for(kind: str, code: str) -> None:
    assert quota.quota_code(kind) == code


def places_of(there: Seen, offered: list[str], **changes: Any) -> tuple[list[str], list[str]]:
    """The zones, best first, and the problems."""
    findings = Findings()
    spec = wish(Path("/nowhere"), **changes)
    found = places.subnets(there, there.instances[0] if there.instances else None, spec, offered,
                           findings)  # fmt: skip
    return [subnet.zone for subnet in found], findings.problems


ALL = ["us-east-1a", "us-east-1b", "us-east-1c"]


def test_every_zone_that_offers_the_type() -> None:
    there = replace(EMPTY, subnets=SUBNETS)
    assert places_of(there, ALL[:2]) == (ALL[:2], [])


def test_the_zone_of_the_data_volume_wins() -> None:
    there = replace(EMPTY, subnets=SUBNETS, volumes=(volume(zone="us-east-1b"),))
    assert places_of(there, ALL) == (["us-east-1b"], [])


def test_the_zone_that_the_user_names() -> None:
    there = replace(EMPTY, subnets=SUBNETS)
    assert places_of(there, ALL, zone="us-east-1c") == (["us-east-1c"], [])


@pytest.mark.parametrize(
    ("there", "offered", "changes", "said"),
    [
        (replace(EMPTY, subnets=SUBNETS), [], {}, "does not offer the instance type g4dn.xlarge"),
        (EMPTY, ALL, {}, "create-default-vpc --region us-east-1"),
        (
            replace(EMPTY, subnets=SUBNETS, volumes=(volume(zone="us-east-1b"),)),
            ["us-east-1a"],
            {},
            "not in us-east-1b (the data volume vol-0a is there)",
        ),
        (
            replace(EMPTY, subnets=SUBNETS),
            ["us-east-1a"],
            {"zone": "us-east-1b"},
            "not in us-east-1b (lab_zone names it): choose another lab_instance_type or leave"
            " lab_zone empty",
        ),
        (
            replace(EMPTY, subnets=SUBNETS),
            ALL,
            {"subnet_id": "subnet-0123456789abcdef0"},
            "there is no such subnet in us-east-1",
        ),
        (
            replace(
                EMPTY,
                subnets=(Subnet("subnet-01234567", "us-east-1a", "vpc-1", True, public=False),),
            ),
            ALL,
            {"subnet_id": "subnet-01234567"},
            "--map-public-ip-on-launch",
        ),
    ],
)
def test_places_that_cannot_be(
    there: Seen, offered: list[str], changes: dict[str, str], said: str
) -> None:
    zones, problems = places_of(there, offered, **changes)
    assert zones == []
    assert len(problems) == 1
    assert said in problems[0]


def volume_problems(there: Seen, **changes: Any) -> Findings:
    findings = Findings()
    host = there.instances[0] if there.instances else None
    places.volume(there, host, wish(Path("/nowhere"), **changes), findings)
    return findings


@pytest.mark.parametrize(
    ("there", "changes", "said"),
    [
        (replace(EMPTY, volumes=(volume(), volume(id="vol-0b"))), {}, "more than one data volume"),
        (
            replace(EMPTY, volumes=(volume(zone="us-east-1b"),), instances=(instance(),)),
            {},
            "a volume cannot leave its zone",
        ),
        (replace(EMPTY, volumes=(volume(),)), {"zone": "us-east-1b"}, "leave lab_zone empty"),
        (
            replace(
                EMPTY,
                volumes=(volume(attached_to="i-0b"),),
                instances=(instance(), instance(id="i-0b", tags={})),
            ),
            {},
            "detach-volume",
        ),
    ],
)
def test_data_volumes_that_cannot_be_used(there: Seen, changes: dict[str, str], said: str) -> None:
    (problem,) = volume_problems(there, **changes).problems
    assert said in problem


def test_a_data_volume_is_never_made_smaller() -> None:
    found = volume_problems(replace(EMPTY, volumes=(volume(),)), data_gb=50)
    assert found.problems == []
    assert found.warnings == [
        "lab_data_gb is 50, but the data volume vol-0a has 100 GB and stays so: AWS cannot make a"
        " volume smaller. Set lab_data_gb to 100; for a smaller one copy the data to the bucket,"
        " then playbooks/destroy.yml -e delete_data=true and site.yml"
    ]


def test_a_data_volume_that_is_to_grow_is_no_problem() -> None:
    assert volume_problems(replace(EMPTY, volumes=(volume(),)), data_gb=200) == Findings()


IMAGE = image.Image("ami-1", "debian", "/dev/xvda", 8, "x86_64", "admin")
KIND = {"ProcessorInfo": {"SupportedArchitectures": ["x86_64"]}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("There is no image", "There is no image"),
        (replace(IMAGE, size=75), "-e lab_root_gb=75"),
        (replace(IMAGE, architecture="arm64"), "is for arm64, but g4dn.xlarge is x86_64"),
    ],
)
def test_images_that_do_not_fit(found: image.Image | str, said: str) -> None:
    findings = Findings()
    image.fit(KIND, found, wish(Path("/nowhere")), findings)
    (problem,) = findings.problems
    assert said in problem


def test_an_image_that_fits() -> None:
    findings = Findings()
    image.fit(KIND, IMAGE, wish(Path("/nowhere")), findings)
    assert findings == Findings()


ARM = {"ProcessorInfo": {"SupportedArchitectures": ["arm64"]}}
TYPES = {
    "the same": (instance(), KIND, {}, [], []),
    "another, running": (
        instance(), KIND, {"instance_type": "g5.xlarge"}, [],
        ["The host is stopped to change it from g4dn.xlarge to g5.xlarge: what runs on it ends"],
    ),
    "another, stopped": (instance(state="stopped"), KIND, {"instance_type": "g5.xlarge"}, [], []),
    "one that will do": (
        instance(type="g6.xlarge"), KIND, {"instance_types": ["g6.xlarge"]}, [],
        ["The host runs as g6.xlarge of lab_instance_types; its next start tries g4dn.xlarge"],
    ),
    "for another architecture": (
        instance(architecture="x86_64"), ARM, {"instance_type": "g5g.xlarge"},
        ["The host i-0a is for x86_64, but g5g.xlarge is arm64"], [],
    ),
    "unknown": (
        instance(), None, {"instance_type": "g9z.huge"},
        ["us-east-1 does not offer the instance type g9z.huge"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "kind", "changes", "problems", "warnings"), TYPES.values(), ids=TYPES.keys()
)
def test_another_type_for_a_host_that_is_there(
    host: Any, kind: Any, changes: dict[str, Any], problems: list[str], warnings: list[str]
) -> None:
    findings = Findings()
    image.drift(host, kind, wish(Path("/nowhere"), **changes), findings)
    for said, found in ((problems, findings.problems), (warnings, findings.warnings)):
        assert len(found) == len(said)
        assert all(text.startswith(begin) for text, begin in zip(found, said, strict=True))


def test_other_types_must_exist_and_fit_the_image() -> None:
    findings = Findings()
    spec = wish(Path("/nowhere"), instance_types=["g9z.huge", "g5g.xlarge", "g5.xlarge"])
    image.others({"g9z.huge": None, "g5g.xlarge": ARM, "g5.xlarge": KIND}, "x86_64", spec, findings)
    unknown, other = findings.problems
    assert "does not know the instance type g9z.huge of lab_instance_types" in unknown
    assert "g5g.xlarge of lab_instance_types is not for x86_64" in other


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "renew them"),
        ("RequestExpired", "clock"),
        ("UnauthorizedOperation", "may not call ec2:RunInstances"),
        ("AccessDenied", "may not call ec2:RunInstances"),
        ("RequestLimitExceeded", "throttled"),
        ("VcpuLimitExceeded", "request-service-quota-increase"),
        ("SomethingNew", "AWS refused ec2:RunInstances: SomethingNew: why"),
    ],
)
def test_errors_of_aws_say_what_to_do(code: str, said: str) -> None:
    assert said in explain(code, "why", "ec2", "RunInstances")
