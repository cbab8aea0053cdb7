"""Real credentials never reach the sandbox, nor the sandbox's ones AWS."""

from __future__ import annotations

import pytest
from ansible.module_utils.lab.aws import environment
from ansible.module_utils.lab.errors import LabError

AWS = {"ec2": "https://ec2.us-east-1.amazonaws.com", "s3": "https://s3.amazonaws.com"}
SANDBOX = {"ec2": "http://127.0.0.1:5600", "s3": "http://localhost:5600"}
REAL = "AKIAIOSFODNN7EXAMPLE"  # the one of AWS's documentation
OURS = "AKIAGPULABSANDBOX000"


def of_account(number: int) -> str:
    """An access key as AWS makes it for an account (and moto for its own)."""
    from moto.iam.utils import generate_access_key_id_from_account_id  # noqa: PLC0415
    from moto.moto_api._internal import mock_random  # noqa: PLC0415

    mock_random.seed(number)  # the key is part of a test's name, which must not be random
    return generate_access_key_id_from_account_id(f"{number:012d}", "AKIA")


@pytest.mark.parametrize("key", [OURS, "testing", of_account(123456789012), ""])
def test_the_sandbox_with_its_own_key(key: str) -> None:
    assert environment.check(SANDBOX, key, {}) is True


@pytest.mark.parametrize("key", [REAL, of_account(111122223333), "ASIA" + REAL[4:]])
def test_aws_with_a_real_key(key: str) -> None:
    assert environment.check(AWS, key, {}) is False


@pytest.mark.parametrize(
    ("endpoints", "key", "environ", "said"),
    [
        (SANDBOX, REAL, {}, "unset AWS_ENDPOINT_URL"),
        (SANDBOX, of_account(210987654321), {}, "unset AWS_ENDPOINT_URL"),
        (AWS, OURS, {}, "python -m sandbox env"),
        (AWS, of_account(123456789012), {}, "python -m sandbox env"),
        (AWS, REAL, {"GPULAB_CALLER_CIDR": "127.0.0.1/32"}, "unset GPULAB_CALLER_CIDR"),
        ({**AWS, "s3": SANDBOX["s3"]}, REAL, {}, "unset every AWS_ENDPOINT_URL"),
    ],
)
def test_a_mixture_is_refused(
    endpoints: dict[str, str], key: str, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(LabError, match=said.replace("*", r"\*")) as caught:
        environment.check(endpoints, key, environ)
    assert not key or key not in str(caught.value), "a whole access key is not for logs"


@pytest.mark.parametrize("account", [1, 2, 111122223333, 123456789012, 999999999999])
def test_the_account_is_read_from_the_key(account: int) -> None:
    assert environment.account_of(of_account(account)) == f"{account:012d}"
