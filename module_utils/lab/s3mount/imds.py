"""The instance's own metadata, version 2: the region and the role's credentials."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.error import HTTPError

from ..errors import LabError
from . import metadata
from .sigv4 import Credentials

_NOT_FOUND = 404
T = TypeVar("T")


@dataclass(frozen=True)
class InstanceMetadata:
    """Asks the metadata service with a token, as IMDSv2 wants.

    `timeout` is seconds per request. Every method raises LabError where
    nothing answers or the instance has no role.
    """

    address: str = metadata.ADDRESS
    timeout: float = 3.0

    def region(self) -> str:
        """Name the region that the instance runs in."""
        return self._get("placement/region")

    def role_name(self) -> str:
        """Name the role of the instance's profile."""
        return self._get(metadata.ROLES).splitlines()[0].strip()

    def credentials(self, role: str) -> Credentials:
        """Fetch the temporary credentials of a role."""
        text = self._get(f"{metadata.ROLES}{role}")
        try:
            answer = json.loads(text)
            return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])
        except (ValueError, LookupError):
            found = re.search(r'"Code"\s*:\s*"(\w+)"', text)
            raise LabError(
                f"The instance may not take the role {role} ({found[1] if found else 'no code'}): "
                "its trust policy must allow ec2.amazonaws.com to assume it."
            ) from None

    def wants_token(self) -> bool:
        """Tell whether the service refuses whoever asks without a token (HttpTokens=required)."""
        return self._told(lambda: metadata.wants_token(self.address, self.timeout))

    def _get(self, path: str) -> str:
        return self._told(lambda: metadata.get(path, self.address, self.timeout))

    def _told(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except HTTPError as error:
            if error.code == _NOT_FOUND and "iam/" in error.url:
                raise LabError(
                    "The instance has no role: attach an instance profile to it, "
                    "or give access_key and secret_key, or a passwd_file."
                ) from error
            raise LabError(f"The instance metadata service answers {error.code}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise LabError(
                f"No instance metadata service answers at {self.address}: without one give "
                "the region, and access_key and secret_key or a passwd_file."
            ) from error
