"""boto3 as most write it: ADDRESS FILE downloads one object, in parts side by side."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import boto3


def main() -> None:
    """Download."""
    address, target = urlsplit(sys.argv[1]), sys.argv[2]
    boto3.client("s3").download_file(address.netloc, address.path[1:], target)


if __name__ == "__main__":
    main()
