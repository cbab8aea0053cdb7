#!/usr/bin/python3
"""Prove that Jupyter answers, refuses strangers, and listens on the loopback address only."""

from __future__ import annotations

import hashlib
import http.cookiejar
import importlib.metadata
import json
import re
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/lab/jupyter.json")
# Role pytorch's; not there where this role stands alone.
PYTORCH = Path("/etc/lab/pytorch.json")
SECONDS = 10
# A server that was restarted a moment ago is still loading its extensions.
PATIENCE_SECONDS = 60
LISTENING = "0A"
ANYWHERE = "00000000"
LOOPBACK = ("0100007F", "00000000000000000000000001000000")
OK = 200
REFUSED = (401, 403)

Result = tuple[bool, str]


def opener(
    settings: dict[str, Any], jar: http.cookiejar.CookieJar | None = None
) -> urllib.request.OpenerDirector:
    """Make a client without proxies that keeps cookies in ``jar``, and trusts our certificate."""
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPCookieProcessor(jar),
    ]
    if settings["certificate"]:
        handlers.append(urllib.request.HTTPSHandler(context=trusting(settings)))
    return urllib.request.build_opener(*handlers)


def trusting(settings: dict[str, Any]) -> ssl.SSLContext:
    """Trust the server's own certificate and no other."""
    return ssl.create_default_context(cafile=settings["certificate"])


def ask(
    url: str, client: urllib.request.OpenerDirector, data: bytes | None = None, token: str = ""
) -> tuple[int, bytes]:
    """Answer with the status and the body, whatever the status."""
    headers = {"Authorization": f"token {token}"} if token else {}
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310  (127.0.0.1)
    try:
        with client.open(request, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def answers(settings: dict[str, Any]) -> Result:
    """Wait for the server."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            code, body = ask(settings["url"] + "/api", opener(settings))
            break
        except OSError as error:
            if time.monotonic() >= until:
                return False, f"{settings['url']}/api: {error}"
            time.sleep(1)
    if code != OK:
        return False, f"/api answers {code}"
    return True, f"jupyter-server {json.loads(body)['version']}"


def has_no_known_holes(settings: dict[str, Any]) -> Result:
    """Compare what is installed with the oldest versions that have none."""
    places = [str(path) for path in Path(settings["venv"]).glob("lib/python3*/site-packages")]
    installed = {
        re.sub(r"[-_.]+", "_", dist.metadata["Name"]).lower(): dist.version
        for dist in importlib.metadata.distributions(path=places)
    }
    found = {name: installed[name] for name in settings["floors"] if name in installed}
    old = [
        f"{name} {version} is below {settings['floors'][name]}"
        for name, version in found.items()
        if numbers(version) < numbers(settings["floors"][name])
    ]
    said = ", ".join(old or [f"{name} {version}" for name, version in found.items()])
    return not old and "jupyter_server" in found, said


def numbers(version: str) -> tuple[int, ...]:
    """Make versions comparable: ``2.21.1`` to (2, 21, 1)."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def refuses_password(settings: dict[str, Any]) -> Result:
    """Log in as a browser does, with a password that is not the right one."""
    jar = http.cookiejar.CookieJar()
    client = opener(settings, jar)
    ask(settings["url"] + "/login", client)
    xsrf = next((cookie.value or "" for cookie in jar if cookie.name == "_xsrf"), "")
    form = urllib.parse.urlencode({"password": "not the password", "_xsrf": xsrf})
    code, _ = ask(settings["url"] + "/login", client, data=form.encode())
    return code == REFUSED[0], str(code)


def refuses_strangers(settings: dict[str, Any]) -> Result:
    """Ask for kernels and status without any right to."""
    codes = [
        ask(settings["url"] + path, opener(settings))[0] for path in ("/api/kernels", "/api/status")
    ]
    return all(code in REFUSED for code in codes), ", ".join(map(str, codes))


def knows_watcher(settings: dict[str, Any]) -> Result:
    """Ask for the kernels as the idle watcher does."""
    token = Path(settings["token_file"]).read_text().strip()
    url = settings["url"] + "/api/kernels?no_track_activity=1"
    code, body = ask(url, opener(settings), token=token)
    count = len(json.loads(body)) if code == OK else 0
    return code == OK, f"{code}, {count} kernels"


def has_kernels(settings: dict[str, Any]) -> Result:
    """See the kernel of each environment among those on offer, the lab's own first."""
    token = Path(settings["token_file"]).read_text().strip()
    code, body = ask(
        settings["url"] + "/api/kernelspecs?no_track_activity=1", opener(settings), token=token
    )
    names = sorted(json.loads(body).get("kernelspecs", {})) if code == OK else []
    environments = json.loads(PYTORCH.read_text()) if PYTORCH.exists() else {}
    wanted = {"python3", *(Path(path).name for path in environments.get("environments", []))}
    if missing := sorted(wanted - set(names)):
        return False, f"{code}: {', '.join(missing)} missing among {', '.join(names) or 'none'}"
    return True, ", ".join(names)


def has_extensions(settings: dict[str, Any]) -> Result:
    """Ask what shows memory and processor, and what speaks with git, as the browser does."""
    token = Path(settings["token_file"]).read_text().strip()
    codes = {
        path: ask(settings["url"] + path, opener(settings), token=token)[0]
        for path in ("/api/metrics/v1", "/git/settings", "/api/terminals")
    }
    return set(codes.values()) == {OK}, ", ".join(f"{path} {codes[path]}" for path in codes)


def listens(settings: dict[str, Any]) -> Result:
    """Find every listener at the port in the kernel's own tables: on loopback, unless by TLS."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and int(port, 16) == settings["port"]:
                found.append(address)
    if settings["certificate"] and found == [ANYWHERE]:
        return encrypted(settings)
    open_ones = [address for address in found if address not in LOOPBACK]
    if open_ones:
        return False, f"also at {', '.join(open_ones)} (as in /proc/net/tcp)"
    return bool(found), f"port {settings['port']} at 127.0.0.1" if found else "nothing listens"


def encrypted(settings: dict[str, Any]) -> Result:
    """Shake hands, trusting the certificate on the data volume; name it as the recap does."""
    place = ("127.0.0.1", settings["port"])
    with (
        socket.create_connection(place, SECONDS) as plain,
        trusting(settings).wrap_socket(plain, server_hostname=place[0]) as tls,
    ):
        shown = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest().upper()
        pairs = ":".join(shown[i : i + 2] for i in range(0, len(shown), 2))
        return True, f"port {place[1]} at all addresses, by {tls.version()}, SHA-256 {pairs}"


def service_enabled(settings: dict[str, Any]) -> Result:
    """See that the service runs and comes back at boot."""
    said = [
        subprocess.run(
            ["systemctl", verb, settings["service"]], capture_output=True, text=True, check=False
        ).stdout.strip()
        for verb in ("is-active", "is-enabled")
    ]
    return said == ["active", "enabled"], ", ".join(said)


def secrets_kept(settings: dict[str, Any]) -> Result:
    """See that only those who must can read the secrets."""
    wide = [
        f"{path} is {Path(path).stat().st_mode & 0o777:04o}"
        for path in settings["secret_files"]
        if Path(path).stat().st_mode & 0o027
    ]
    return not wide, ", ".join(wide) or f"{len(settings['secret_files'])} files"


CHECKS: dict[str, Callable[[dict[str, Any]], Result]] = {
    "jupyter answers": answers,
    "jupyter starts at boot": service_enabled,
    "jupyter refuses a wrong password": refuses_password,
    "jupyter refuses who has no password": refuses_strangers,
    "jupyter knows the idle watcher": knows_watcher,
    "jupyter offers a kernel for each environment": has_kernels,
    "jupyter shows resources, git and terminals": has_extensions,
    "jupyter has no known holes": has_no_known_holes,
    "jupyter listens on the loopback address, or by TLS": listens,
    "jupyter keeps its secrets": secrets_kept,
}


def main() -> None:
    """Print one line for each check; what goes wrong in one fails that one."""
    settings = json.loads(SETTINGS.read_text())
    for name, check in CHECKS.items():
        try:
            good, detail = check(settings)
        except Exception as error:  # a check that cannot be carried out has failed, and says why
            good, detail = False, f"{type(error).__name__}: {error}"
        line = {"check": name, "status": "ok" if good else "failed", "detail": detail}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
