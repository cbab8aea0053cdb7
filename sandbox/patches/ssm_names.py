"""Gap: the public SSM names of Debian, Ubuntu and the Deep Learning AMIs are unknown.

They are put into a region's parameters when one of them is first asked for, as moto does with
Amazon Linux.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto.ssm import models

from sandbox.catalogue import PublicImage, public_images
from sandbox.patches import patch
from sandbox.settings import Settings

PREFIXES = ("/aws/service/debian", "/aws/service/canonical", "/aws/service/deeplearning")


def apply(_settings: Settings) -> None:
    """Patch the look-up of parameters."""
    patch(models.ParameterDict, "_check_loading_status", _check_loading_status)


def _check_loading_status(original: Callable[..., Any], parameters: Any, key: str) -> None:
    original(parameters, key)
    if str(key or "").startswith(PREFIXES) and not getattr(parameters, "names_of_images", False):
        parameters.names_of_images = True
        for image in public_images():
            for name in image.ssm_names:
                dict.__setitem__(parameters, name, [_parameter(parameters, image, name)])


def _parameter(parameters: Any, image: PublicImage, name: str) -> Any:
    make: Any = models.Parameter  # abstract in moto's annotations only
    return make(
        account_id=parameters.account_id,
        name=name,
        value=image.ami_id,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=datetime.fromisoformat(image.creation_date),
        version=1,
        data_type="aws:ec2:image",
    )
