"""Calls to AWS, and its errors in words that say what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Protocol

from ..errors import LabError
from . import policy
from .environment import is_loopback

SERVICES = ("sts", "ec2", "iam", "s3", "ssm", "service-quotas")
# Made when they are first called, with the one region in which AWS has them ("": the lab's).
# The price list and the bill are told where they can be had, so nobody waits long for them.
LATER = {
    "efs": "",
    "scheduler": "",
    "budgets": "us-east-1",
    "ce": "us-east-1",
    "pricing": "us-east-1",
}
IMPATIENT = ("ce", "pricing")

CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
THROTTLED = {
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


class AwsError(LabError):
    """A call that AWS refused; `code` is AWS's own word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Aws(Protocol):
    """What the logic needs of AWS; the tests put a table of answers in its place."""

    region: str

    def call(self, service: str, operation: str, **params: Any) -> Mapping[str, Any]:
        """Make one call. Raises AwsError."""

    def pages(self, service: str, operation: str, key: str, **params: Any) -> list[Any]:
        """Make a call that answers in pages and return all items under `key`."""


def explain(code: str, message: str, service: str, operation: str) -> str:
    """Put an error code of AWS into a sentence with the next step."""
    what = f"{service}:{operation}"
    if code in CREDENTIALS:
        return (
            f"AWS does not accept the credentials ({what}: {code}): renew them (for instance"
            " `aws sso login`, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), see that"
            " this machine's clock is right, and run the same command again"
        )
    if code in DENIED:
        prints = "make policy ARGS=--efs" if service == "efs" else "make policy"
        return (
            f"These credentials may not call {what} ({code}): allow"
            f" {' and '.join(policy.own_actions(what)) or 'it'} to the user or role that `aws sts"
            f" get-caller-identity` names (`{prints}` prints all that a lab needs), and run"
            f" again. AWS says: {message}"
        )
    if code in THROTTLED:
        return (
            f"AWS throttled {what} ({code}) and went on doing so: wait a minute and run the same"
            " command again; it goes on where it stopped"
        )
    if code == "VcpuLimitExceeded":
        return (
            f"The account's vCPU quota is too small ({what}: {code}): request more with"
            " `aws service-quotas request-service-quota-increase --service-code ec2` (the quota"
            f" codes are in roles/ec2_host/README.md). AWS says: {message}"
        )
    return f"AWS refused {what}: {code}: {message}"


class Boto:
    """The real AWS by boto3: short timeouts, bounded retries, each client made once."""

    def __init__(self, region: str) -> None:
        """Make the clients; no call is made yet. Raises LabError."""
        import boto3  # noqa: PLC0415 - only this class needs it, and a missing one is explained
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        self.region = region
        # RunInstances may take minutes in the sandbox, which starts a machine before it answers.
        config = Config(
            connect_timeout=5,
            read_timeout=300,
            retries={"mode": "standard", "total_max_attempts": 6},
            max_pool_connections=20,
        )
        try:
            session = boto3.session.Session(region_name=region)
            self._credentials = session.get_credentials()
            # boto3's own typing wants each service's name as a literal.
            make: Callable[..., Any] = session.client
            self._make, self._config = make, config
            self._clients = {name: make(name, config=config) for name in SERVICES}
            # boto3's sessions are not for several threads at once.
            self._making = Lock()
        except BotoCoreError as error:
            raise LabError(f"boto3 cannot be set up: {error}") from error

    @property
    def access_key(self) -> str:
        """Id of the access key in use, empty when there are no credentials."""
        return self._credentials.access_key if self._credentials else ""

    @property
    def endpoints(self) -> dict[str, str]:
        """Where each service is called."""
        return {name: str(client.meta.endpoint_url) for name, client in self._clients.items()}

    def call(self, service: str, operation: str, **params: Any) -> Mapping[str, Any]:
        """Make one call. Raises AwsError."""
        answer: Mapping[str, Any] = self._guard(
            service, operation, lambda: self._method(service, operation)(**params)
        )
        return answer

    def pages(self, service: str, operation: str, key: str, **params: Any) -> list[Any]:
        """Make a call that answers in pages and return all items under `key`."""
        pager = self._client(service).get_paginator(_snake(operation))

        def walk() -> list[Any]:
            return [item for page in pager.paginate(**params) for item in page.get(key, [])]

        found: list[Any] = self._guard(service, operation, walk)
        return found

    def _method(self, service: str, operation: str) -> Any:
        return getattr(self._client(service), _snake(operation))

    def _client(self, service: str) -> Any:
        """Return a client, made now where it is a rare one. Raises LabError."""
        with self._making:
            if service not in self._clients:
                client = self._make(
                    service,
                    region_name=LATER[service] or self.region,
                    config=self._config.merge(_quick()) if service in IMPATIENT else self._config,
                )
                here, there = self.endpoints["ec2"], str(client.meta.endpoint_url)
                if is_loopback(here) != is_loopback(there):
                    raise LabError(
                        f"{service} is called at {there}, but ec2 at {here}: unset every"
                        " AWS_ENDPOINT_URL* for AWS, or run `eval"
                        ' "$(python -m sandbox env)"` for the sandbox'
                    )
                self._clients[service] = client
            return self._clients[service]

    @staticmethod
    def _guard(service: str, operation: str, work: Callable[[], Any]) -> Any:
        from botocore.exceptions import (  # noqa: PLC0415
            BotoCoreError,
            ClientError,
            NoCredentialsError,
        )

        try:
            return work()
        except NoCredentialsError as error:
            raise AwsError("NoCredentials", NO_CREDENTIALS) from error
        except ClientError as error:
            said = error.response.get("Error", {})
            code, message = str(said.get("Code", "")), str(said.get("Message", ""))
            raise AwsError(code, explain(code, message, service, operation)) from error
        except BotoCoreError as error:
            raise AwsError(
                type(error).__name__,
                f"{service}:{operation} got no answer: {error}. See that the network (or the"
                " sandbox: `python -m sandbox status`) is up and run the same command again",
            ) from error


def _quick() -> Any:
    from botocore.config import Config  # noqa: PLC0415 - see above

    return Config(connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 1})


NO_CREDENTIALS = (
    "There are no AWS credentials: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or"
    " AWS_PROFILE; to try the lab without an account, run `make lab`"
)


def _snake(operation: str) -> str:
    """Turn DescribeInstances into describe_instances."""
    from botocore import xform_name  # noqa: PLC0415

    return str(xform_name(operation))


def side_by_side(work: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run independent look-ups at the same time; the first error in order is raised."""
    with ThreadPoolExecutor(max_workers=12) as pool:
        running = {name: pool.submit(job) for name, job in work.items()}
        return {name: job.result() for name, job in running.items()}


def unless(codes: set[str], work: Callable[[], Any]) -> Any:
    """Return None instead of raising where AWS answers with one of these codes."""
    try:
        return work()
    except AwsError as error:
        if error.code in codes:
            return None
        raise
