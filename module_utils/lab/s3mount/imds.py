"""The instance's own metadata, version 2: the region and the role's credentials."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from ..errors import LabError
from .sigv4 import Credentials

ADDRESS = "http://169.254.169.254"
_NOT_FOUND = 404


@dataclass(frozen=True)
class InstanceMetadata:
    """Asks the metadata service with a token, as IMDSv2 wants.

    `timeout` is seconds per request. Every method raises LabError where
    nothing answers or the instance has no role.
    """

    address: str = ADDRESS
    timeout: float = 3.0

    def region(self) -> str:
        """Name the region that the instance runs in."""
        return self._get("placement/region")

    def role_name(self) -> str:
        """Name the role of the instance's profile."""
        return self._get("iam/security-credentials/").splitlines()[0].strip()

    def credentials(self, role: str) -> Credentials:
        """Fetch the temporary credentials of a role."""
        answer = json.loads(self._get(f"iam/security-credentials/{role}"))
        return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])

    def _get(self, path: str) -> str:
        token = self._ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        return self._ask("GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = Request(  # noqa: S310 - the address is a constant, http by its nature
            f"{self.address}/latest/{path}", method=method, headers=headers
        )
        # A proxy in the environment would see the credentials and cannot reach the service.
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            if error.code == _NOT_FOUND and "iam/" in path:
                raise LabError(
                    "The instance has no role: attach an instance profile to it, "
                    "or give access_key and secret_key, or a passwd_file."
                ) from error
            raise LabError(f"The instance metadata service answers {error.code}.") from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise LabError(
                f"No instance metadata service answers at {self.address}: without one give "
                "the region, and access_key and secret_key or a passwd_file."
            ) from error
