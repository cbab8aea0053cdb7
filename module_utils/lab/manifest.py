"""What a host is made of, so that two builds can be compared: a list of versions and hashes.

Nothing in it changes with time or place alone: no dates, addresses, sizes or ids of instances.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import gpu, pyenv
from .errors import LabError

FORMAT = 1
# Parts of which each is a dict of plain values, or a dict of such dicts.
Manifest = dict[str, Any]


def collect(root: Path, image: str, runner: gpu.Runner = gpu.run) -> Manifest:
    """Read the host below `root`; `image` is the id of the image that it was made from."""
    host = gpu.read_host(root, runner)
    return {
        "format": FORMAT,
        "image": image,
        "kernel": host.kernel,
        "distribution": _pretty_name(root),
        "instance_type": host.instance_type,
        "gpu": [each.device for each in host.gpus],
        "driver": {
            "loaded": host.loaded,
            "modules": host.loaded_modules,
            "installed": host.installed,
            "library": host.library,
        },
        "cuda": cuda(root),
        "apt": apt(runner),
        "python": {path.name: python(path) for path in environments(root)},
    }


def _pretty_name(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text(root / "etc/os-release"), re.MULTILINE)
    return found[1] if found else ""


def cuda(root: Path) -> list[str]:
    """List the toolkits in /usr/local, such as "13.0"."""
    found = (path.name.removeprefix("cuda-") for path in (root / "usr/local").glob("cuda-*.*"))
    return sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def apt(runner: gpu.Runner) -> dict[str, str]:
    """Return version by name of every package that is installed."""
    query = ["dpkg-query", "--show", "--showformat"]
    _, text = runner([*query, "${Package}:${Architecture}\t${db:Status-Status}\t${Version}\n"])
    rows = (line.split("\t") for line in text.splitlines())
    return {name: version for name, state, version in rows if state == gpu.DONE}


def environments(root: Path) -> list[Path]:
    """List the folders of the Python environments, as role pytorch has noted them."""
    text = _text(root / "etc/lab/pytorch.json")
    if not text:
        return []
    noted = json.loads(text)
    folders = [noted["venv"], *noted.get("environments", [])]
    return [root / folder.lstrip("/") for folder in folders]


def python(path: Path) -> dict[str, dict[str, Any]]:
    """Return version and hashes of each package of an environment.

    One that is not in the environment's lock was installed by hand: it has no hashes.
    """
    lock = _text(path / pyenv.MARK)
    known, pinned = pyenv.hashes(lock), pyenv.pins(lock)
    found = {}
    for name, version in pyenv.installed(path).items():
        ours = pinned.get(name) is not None and name not in pyenv.missing(path, lock)
        found[name] = {"version": version, "hashes": known.get(name, []) if ours else []}
    return dict(sorted(found.items()))


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Say what differs between two manifests, a line each. Raises LabError."""
    for each in (old, new):
        if not isinstance(each, dict) or each.get("format") != FORMAT:
            raise LabError(
                f"A manifest of format {FORMAT} was expected: write one with"
                " `ansible-playbook playbooks/manifest.yml`"
            )
    return list(_differ("", old, new))


def _differ(where: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differ(f"{where} {key}".strip(), old.get(key), new.get(key))
    else:
        yield f"{where}: {_show(old)} -> {_show(new)}"


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, dict):
        return str(value.get("version", value))
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:2]))
        return f"[{shown}{', …' if len(value) > len(value[:2]) else ''}]"
    return str(value) or "(none)"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
