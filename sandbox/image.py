"""Builds the container images that stand for cloud images: gpulab/debian:13 and gpulab/debian:12.

The base comes from the registry where one can be pulled, else from debootstrap with the
machine's own mirror. The machine's certificates, proxies and package indexes go along, so that
a host in a closed network installs what this machine could.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import docker
import docker.errors

SUITES: Mapping[str, str] = {"13": "trixie", "12": "bookworm"}
REPOSITORY = "gpulab/debian"
RECIPE_LABEL = "gpulab.recipe"
HERE = Path(__file__).resolve().parent
LOCAL_CAS = Path("/usr/local/share/ca-certificates")
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PULL_TIMEOUT_S = 120


class ImageError(Exception):
    """An image could not be built; the text says what to do."""


def build(release: str) -> str:
    """Build gpulab/debian:<release> unless it is there, up to date; return its reference.

    `release` is "13" or "12". Raises ImageError.
    """
    if release not in SUITES:
        raise ImageError(f"release {release}: the sandbox has images for {', '.join(SUITES)} only")
    client = docker.from_env(timeout=1200)
    reference = f"{REPOSITORY}:{release}"
    files = {f"overlay/{name}": data for name, data in (_overlay() | _nfs()).items()}
    files["Dockerfile"] = (HERE / "image" / "Dockerfile").read_bytes()
    recipe = _digest(release, files)
    if _recipe_of(client, reference) == recipe:
        return reference
    print(f"sandbox: making the image {reference} (once; about two minutes)", file=sys.stderr)
    arguments = {"BASE": _base(client, release), "SUITE": SUITES[release]}
    arguments |= {"MIRROR": _mirror("debian"), "SECURITY_MIRROR": _mirror("debian-security")}
    try:
        client.images.build(
            fileobj=_tar(files),
            custom_context=True,
            tag=reference,
            buildargs=arguments,
            labels={RECIPE_LABEL: recipe},
            rm=True,
            forcerm=True,
        )
    except docker.errors.BuildError as error:
        log = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise ImageError(f"building {reference} failed: {error}\n{log[-2000:]}") from error
    return reference


def _digest(release: str, files: Mapping[str, bytes]) -> str:
    """Change whenever anything that goes into the image does."""
    digest = hashlib.sha256(release.encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()


def _recipe_of(client: docker.DockerClient, reference: str) -> str | None:
    try:
        labels = client.images.get(reference).labels
    except docker.errors.ImageNotFound:
        return None
    return str(labels.get(RECIPE_LABEL, ""))


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    stream.seek(0)
    return stream


def _base(client: docker.DockerClient, release: str) -> str:
    """Pull debian:<release>, or make it; return a reference to build from."""
    own = f"gpulab/base:{release}"
    for reference in (f"debian:{release}", own):
        try:
            client.images.get(reference)
        except docker.errors.ImageNotFound:
            continue
        return reference
    try:
        pulled = subprocess.run(
            ["docker", "pull", "--quiet", f"debian:{release}"],
            capture_output=True, text=True, timeout=PULL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pulled = None
    if pulled is not None and pulled.returncode == 0:
        return f"debian:{release}"
    _debootstrap(client, release, own)
    return own


def _debootstrap(client: docker.DockerClient, release: str, reference: str) -> None:
    if not shutil.which("debootstrap"):
        raise ImageError(
            f"no registry answers with debian:{release} and debootstrap is missing:"
            " run `apt-get install debootstrap`"
        )
    repository, tag = reference.split(":")
    with tempfile.TemporaryDirectory(prefix="gpulab-base-") as folder:
        root = Path(folder, "root")
        command = ["debootstrap", "--variant=minbase", SUITES[release], str(root)]
        command += [mirror] if (mirror := _mirror("debian")) else []
        log = Path(folder, "log")
        with log.open("wb") as stream:
            status = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
        if status:
            raise ImageError(f"{' '.join(command)} failed:\n{log.read_text()[-1500:]}")
        # Docker's own images do the same: a container has no power cut to fear.
        (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        tar = subprocess.Popen(
            ["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-c", "."],
            stdout=subprocess.PIPE,
        )
        imported = subprocess.run(
            ["docker", "import", "-", f"{repository}:{tag}"],
            stdin=tar.stdout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if tar.wait() or imported.returncode:
            raise ImageError(f"docker import of {reference} failed: {imported.stderr.strip()}")
    client.images.get(reference)


def _mirror(archive: str) -> str:
    """Find this machine's own mirror of an archive of Debian; empty where it has none."""
    if not shutil.which("apt-get"):
        return ""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((u.rstrip("/") for u in listed.split() if u.endswith(f"/{archive}/")), "")


def _overlay() -> dict[str, bytes]:
    """Files of the image that come from this machine: certificates, proxies, indexes."""
    files = {
        f"usr/local/share/ca-certificates/{path.name}": path.read_bytes()
        for path in sorted(LOCAL_CAS.glob("*.crt"))
    }
    pip = _pip_settings()
    files["etc/pip.conf"] = _ini("global", {"cert": SYSTEM_BUNDLE} | pip)
    files["etc/uv/uv.toml"] = _uv_toml(pip.get("index-url"))
    files["etc/apt/apt.conf.d/80gpulab"] = _apt_conf()
    return files


def _nfs() -> dict[str, bytes]:
    """Files of the image that stand in for the kernel's NFS."""
    here = HERE / "image" / "nfs"
    places = {
        "nfs-server": "usr/local/lib/gpulab-sandbox",
        "mount-nfs4": "usr/local/lib/gpulab-sandbox",
        "nfs-server.service": "etc/systemd/system",
    }
    return {f"{place}/{name}": (here / name).read_bytes() for name, place in places.items()}


def _pip_settings() -> dict[str, str]:
    """Index, proxy and timeout as pip on this machine has them; local folders are left out."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    wanted = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}
    found: dict[str, str] = {}
    for key, value in re.findall(r"^(?:global|:env:)\.([a-z-]+)='(.*)'$", shown, re.MULTILINE):
        if key in wanted and "file://" not in value:
            found[key] = value
    return found


def _ini(section: str, values: Mapping[str, str]) -> bytes:
    parser = configparser.ConfigParser(interpolation=None)
    parser[section] = dict(values)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().encode()


def _uv_toml(index_url: str | None) -> bytes:
    # The certificates of the machine, not the ones that uv was built with.
    lines = ["system-certs = true"]
    if index_url:
        lines += ["[[index]]", f'url = "{index_url}"', "default = true"]
    return ("\n".join(lines) + "\n").encode()


def _apt_conf() -> bytes:
    """Let apt go through this machine's proxy, if it has one."""
    lines = ['Acquire::Retries "3";']
    for scheme, proxy in urllib.request.getproxies().items():
        if scheme in ("http", "https"):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
        lines += re.findall(r"^Acquire::https?::.*;$", dump.stdout, re.MULTILINE)
    return ("\n".join(dict.fromkeys(lines)) + "\n").encode()
