"""An instance metadata service with a role, at 169.254.169.254 of the container's own loopback.

metadata_service.py KEY SECRET [--v1]

Version 2 alone unless --v1 is given: whoever asks without a token gets 401, as on an instance
whose HttpTokens are `required`.
"""

import argparse
import http.server
import json
import subprocess

ADDRESS = "169.254.169.254"
TOKEN = "a-token-of-the-test"  # noqa: S105 - no secret


class Metadata(http.server.BaseHTTPRequestHandler):
    """Answers as the metadata service of EC2 does."""

    key, secret, v1 = "", "", False

    def do_PUT(self) -> None:
        """Give a token; whoever expects a 100 first, as s3fs 1.90 does, gets 417 as on EC2."""
        if self.headers["Expect"]:
            return self._say(417, "")
        return self._say(200 if self.path == "/latest/api/token" else 404, TOKEN)

    def handle_expect_100(self) -> bool:
        """Leave it to do_PUT."""
        return True

    def do_GET(self) -> None:
        """Give the role, its credentials or the region."""
        if not self.v1 and self.headers["X-aws-ec2-metadata-token"] != TOKEN:
            return self._say(401, "")
        roles = "/latest/meta-data/iam/security-credentials/"
        answers = {
            "/latest/meta-data/placement/region": "us-east-1",
            roles: "lab-role",
            f"{roles}lab-role": json.dumps(
                {
                    "Code": "Success",
                    "AccessKeyId": self.key,
                    "SecretAccessKey": self.secret,
                    "Token": "",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
            ),
        }
        return self._say(200 if self.path in answers else 404, answers.get(self.path, ""))

    def _say(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.command == "PUT":  # AWS's own tools take no token without it
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("key")
    parser.add_argument("secret")
    parser.add_argument("--v1", action="store_true")
    parser.parse_args(namespace=Metadata)
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True)
    http.server.ThreadingHTTPServer((ADDRESS, 80), Metadata).serve_forever()
