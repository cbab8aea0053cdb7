"""What cannot work is refused on the controller, before a single call to AWS."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.testing import patch_module_args

from library import lab_preflight
from tests.unit.aws.kit import IMAGES, PRICES, WISH


class CalledError(Exception):
    """AWS was about to be asked."""


def preflight(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lab: dict[str, Any],
    gpu: dict[str, Any],
    **more: Any,
) -> str:
    """Run the module; what it says, or "asks AWS"."""

    def ask(_params: Any, _wanted: Any) -> None:
        raise CalledError

    monkeypatch.setattr(common, "decide", ask)
    arguments = {
        "lab": {**WISH, "state_dir": "/nowhere", **lab},
        "images": IMAGES, "prices": PRICES, "inventory_region": "us-east-1", "gpu": gpu, **more,
    }  # fmt: skip
    with patch_module_args(arguments):
        try:
            lab_preflight.main()
        except CalledError:
            return "asks AWS"
        except SystemExit:
            return str(json.loads(capsys.readouterr().out)["msg"])
    raise AssertionError("the module neither ended nor asked")


@pytest.mark.parametrize(
    ("lab", "gpu", "said"),
    [
        ({"instance_type": "p3.2xlarge"}, {}, "V100 hosts are retired"),
        ({"instance_type": "p3dn.24xlarge"}, {"torch": "2.15.0"}, "has no code for Volta"),
        ({"instance_type": "p6-b200.48xlarge"}, {"modules": "proprietary"}, "open kernel modules"),
        ({}, {"source": "distribution", "torch": "2.15.0"}, "the driver is 550.163.01"),
        ({"instance_type": "p3dn.24xlarge", "image": "dlami_ubuntu_24_04"}, {}, "the image brings"),
        ({"instance_type": "g6f.large"}, {}, "GRID driver"),
        ({}, {"toolkits": "9"}, 'lab_cuda_toolkits is "9"'),
        ({}, {"branch": 1}, 'lab_nvidia_branch is "1"'),
    ],
)
def test_refused_before_any_call(
    lab: dict[str, Any],
    gpu: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert said in preflight(capsys, monkeypatch, lab, gpu)


@pytest.mark.parametrize(
    ("lab", "gpu"),
    [
        ({}, {}),
        ({"instance_type": "t3.micro"}, {}),
        ({"image": "ami-0123456789abcdef0"}, {}),
        ({"instance_type": "g6f.large", "image": "dlami_ubuntu_24_04"}, {}),
        ({"instance_type": "p3dn.24xlarge"}, {"torch": "2.14.1", "toolkits": ["12.9"]}),
    ],
)
def test_what_can_work_goes_on(
    lab: dict[str, Any],
    gpu: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert preflight(capsys, monkeypatch, lab, gpu) == "asks AWS"


def test_a_host_that_is_there_is_started_whatever_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = {"instance_type": "p3.2xlarge"}
    assert preflight(capsys, monkeypatch, lab, {}, may_create=False) == "asks AWS"


def test_every_named_image_is_known_to_the_table() -> None:
    from ansible.module_utils.lab import gpu_table  # noqa: PLC0415  beside its only use

    assert {image["distribution"] for image in IMAGES.values()} <= set(gpu_table.DISTRIBUTIONS)
