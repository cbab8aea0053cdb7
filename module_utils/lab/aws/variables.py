"""What the user has asked for, checked before the first call to AWS."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import LabError

WHERE = "inventory/group_vars/all/lab.yml"
ACCESS = ("tunnel", "public", "ssm")
SHARED = ("nfs", "efs")
PLACEMENT_GROUP = ("auto", "never", "always")
SSH_PORT = 22
# A network that is larger than this is the internet, whole or in parts.
WIDEST = 8
LAST_PORT = 65535
SHOWN = 60
MOST_WORKERS = 64
TYPE = r"[a-z][a-z0-9-]*\.[a-z0-9-]+"
T = TypeVar("T")


@dataclass(frozen=True)
class Opening:
    """Ports that are open beside SSH; without sources to the networks that may connect."""

    protocol: str
    first: int
    last: int
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A lab as its user wants it; sizes in GiB (what AWS calls GB)."""

    name: str
    region: str
    instance_type: str
    image: str
    image_user: str
    root_gb: int
    data_gb: int
    bucket: str
    allowed_cidrs: tuple[str, ...]
    open_ports: tuple[Opening, ...]
    zone: str
    subnet_id: str
    state_dir: Path
    instance_types: tuple[str, ...] = ()
    max_hours: int = 0
    daily_stop: str = ""
    timezone: str = "UTC"
    monthly_budget: int = 0
    budget_email: str = ""
    retire_days: int = 0
    cost_explorer: bool = False
    bucket_prefix: str = ""
    use_bake: bool = True
    spot: bool = False
    access: str = "tunnel"
    workers: int = 0
    worker_type: str = ""
    placement_group: str = "auto"
    slurm_autostop: bool = False
    shared: str = "nfs"

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that will do, the wanted one first."""
        return tuple(dict.fromkeys((self.instance_type, *self.instance_types)))

    @property
    def worker_types(self) -> tuple[str, ...]:
        """The instance types that will do for a worker, the wanted one first."""
        return (self.worker_type,) if self.worker_type else self.types


class BadValueError(ValueError):
    """One value that breaks its rule; the arguments are the rule and an example that holds."""


def _text(pattern: str, rule: str, example: str, empty: bool = False) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and (
            (empty and not value) or re.fullmatch(pattern, value, re.ASCII)
        ):
            return value
        raise BadValueError(rule, example)

    return check


def _whole(low: int, high: int, example: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        text = str(value).strip()
        whole = not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,9}", text, re.ASCII)
        if whole and low <= int(text) <= high:
            return int(text)
        raise BadValueError(f"a whole number from {low} to {high}", str(example))

    return check


def _list(value: Any) -> list[Any]:
    """Accept a list, or the comma-separated text that `-e` gives."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    raise BadValueError("a list", "[]")


def cidrs(value: Any) -> tuple[str, ...]:
    """Check a list of IPv4 networks. Raises BadValueError."""
    rule, example = "a list of IPv4 networks without host bits", "203.0.113.7/32"
    checked = []
    for item in _list(value):
        if not isinstance(item, str) or not re.fullmatch(r"[0-9.]+/[0-9]+", item):
            raise BadValueError(rule, example)
        try:
            checked.append(str(ipaddress.IPv4Network(item)))
        except ValueError as error:
            raise BadValueError(f"{rule} ({error})", example) from None
    return tuple(sorted(set(checked)))


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise BadValueError(f"one of {', '.join(names)}", names[0])

    return check


def openings(value: Any) -> tuple[Opening, ...]:
    """Check ports, ranges and dictionaries that name sources as well. Raises BadValueError."""
    return tuple(_opening(item) for item in _list(value))


def _opening(item: Any) -> Opening:
    rule, example = "a list of ports such as 6817-6819, or {port, protocol, sources}", "8080"
    given = item if isinstance(item, Mapping) else {"port": item}
    ports = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(given.get("port")), re.ASCII)
    protocol = given.get("protocol", "tcp")
    if not ports or protocol not in ("tcp", "udp"):
        raise BadValueError(rule, example)
    first, last = int(ports[1]), int(ports[2] or ports[1])
    try:
        networks = [ipaddress.ip_network(source) for source in _list(given.get("sources", []))]
    except ValueError as error:
        raise BadValueError(f"{rule}, the sources as networks ({error})", example) from None
    if not 1 <= first <= last <= LAST_PORT:
        raise BadValueError(rule, example)
    return Opening(protocol, first, last, tuple(sorted(map(str, networks))))


def too_wide(networks: Iterable[str]) -> list[str]:
    """Return the networks that are most of the internet."""
    return [text for text in networks if ipaddress.ip_network(text).prefixlen < WIDEST]


def _everyone(access: str | None, networks: Iterable[str]) -> list[str]:
    """Refuse to show Jupyter to the whole internet."""
    wide = ", ".join(too_wide(networks))
    if access != "public" or not wide:
        return []
    return [
        f"lab_allowed_cidrs is {wide}, which shows Jupyter's login to the whole internet: with"
        f" lab_access public name your own networks in {WHERE}, or run again with"
        " -e lab_allowed_cidrs=203.0.113.7/32"
    ]


def _image(value: Any, images: Mapping[str, Any]) -> str:
    if isinstance(value, str) and (value in images or re.fullmatch(r"ami-[0-9a-f]{8,17}", value)):
        return value
    known = ", ".join(sorted(images))
    raise BadValueError(f"one of {known}, or an id such as ami-0123456789abcdef0", "debian_13")


def _types(value: Any) -> tuple[str, ...]:
    try:
        found = [_text(TYPE, "", "")(item) for item in _list(value)]
    except BadValueError:
        raise BadValueError("a list of instance types", "g5.xlarge,g6.xlarge") from None
    return tuple(dict.fromkeys(found))


def _timezone(value: Any) -> str:
    rule = 'the name of a time zone, such as "Europe/Berlin"'
    try:
        return zoneinfo.ZoneInfo(_text(r"[A-Za-z0-9_+/-]{1,60}", rule, "UTC")(value)).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadValueError(rule, "UTC") from None


def _switch(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return text in ("true", "yes", "on", "1")
    raise BadValueError("true or false", "false")


def _bucket(value: Any) -> str:
    rule = "empty, or a bucket's name: 3 to 63 of a-z, 0-9, dot and hyphen"
    text = _text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", rule, "my-data-sets", empty=True)(value)
    if ".." in text or re.fullmatch(r"[0-9.]+", text):
        raise BadValueError(rule, "my-data-sets")
    return text


def check(raw: Mapping[str, Any], images: Mapping[str, Any]) -> Spec:
    """Check every variable and report all bad ones at once. Raises LabError."""
    problems: list[str] = []

    def take(name: str, rule: Callable[[Any], T], variable: str = "") -> T | None:
        value = raw.get(name)
        try:
            return rule(value)
        except BadValueError as bad:
            variable = variable or f"lab_{name}"
            problems.append(
                f'{variable} is "{_shown(value)}", but it must be {bad.args[0]}:'
                f" correct it in {WHERE} or run again with -e {variable}={bad.args[1]}"
            )
            return None

    access = take("access", _one_of(*ACCESS))
    allowed = take("allowed_cidrs", cidrs)
    fields = {
        "access": access,
        "allowed_cidrs": allowed,
        "name": take("name", _text(
            r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?",
            "1 to 31 of a-z, 0-9 and hyphen, beginning with a letter, not ending with a hyphen",
            "lab",
        )),
        "region": take("region", _text(
            r"[a-z]{2}(-[a-z]+)+-[0-9]", "a region's name", "us-east-1")),
        "instance_type": take("instance_type", _text(
            TYPE, "an instance type", "g4dn.xlarge")),
        "instance_types": take("instance_types", _types),
        "image": take("image", lambda value: _image(value, images)),
        "image_user": take("image_user", _text(
            r"[a-z_][a-z0-9_-]{0,31}", "empty, or a Unix user's name", "admin", empty=True)),
        "root_gb": take("root_gb", _whole(8, 16384, 60)),
        "data_gb": take("data_gb", _whole(1, 16384, 100)),
        "bucket": take("bucket", _bucket),
        "bucket_prefix": take("bucket_prefix", _text(
            r"[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*",
            "empty, or names with / between them and none at its ends", "imagenet/2012",
            empty=True)),
        "open_ports": take("open_ports", openings, "ec2_host_open_ports"),
        "zone": take("zone", _text(
            r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]", "empty, or a zone of lab_region", "us-east-1a",
            empty=True)),
        "subnet_id": take("subnet_id", _text(
            r"subnet-[0-9a-f]{8,17}", "empty, or a subnet's id", "subnet-0123456789abcdef0",
            empty=True)),
        "max_hours": take("max_hours", _whole(0, 8760, 48)),
        "daily_stop": take("daily_stop", _text(
            r"([01][0-9]|2[0-3]):[0-5][0-9]", "empty, or a time of day as \"22:30\"", "22:30",
            empty=True)),
        "timezone": take("timezone", _timezone),
        "monthly_budget": take("monthly_budget", _whole(0, 1_000_000, 100)),
        "budget_email": take("budget_email", _text(
            r"[^@\s,]{1,64}@[^@\s,]{1,185}", "empty, or one e-mail address", "me@example.org",
            empty=True)),
        "retire_days": take("retire_days", _whole(0, 3650, 30)),
        "cost_explorer": take("cost_explorer", _switch),
        "use_bake": take("use_bake", _switch),
        "spot": take("spot", _switch),
        "workers": take("workers", _whole(0, MOST_WORKERS, 2)),
        "worker_type": take("worker_type", _text(
            TYPE, "empty, or an instance type", "g4dn.xlarge", empty=True)),
        "placement_group": take("placement_group", _one_of(*PLACEMENT_GROUP)),
        "slurm_autostop": take("slurm_autostop", _switch),
        "shared": take("shared", _one_of(*SHARED)),
    }  # fmt: skip
    if fields["monthly_budget"] and not fields["budget_email"]:
        problems.append(
            f"lab_monthly_budget is {fields['monthly_budget']}, but nobody is to be told: set"
            f" lab_budget_email in {WHERE} or run again with -e lab_budget_email=me@example.org"
        )
    problems += _everyone(access, allowed or ())
    if (
        fields["zone"]
        and fields["region"]
        and not str(fields["zone"]).startswith(str(fields["region"]))
    ):
        problems.append(
            f'lab_zone is "{fields["zone"]}", but it must lie in lab_region {fields["region"]}:'
            f" correct it in {WHERE} or run again with -e lab_zone={fields['region']}a"
        )
    if problems:
        raise LabError("\n".join(problems))
    return Spec(**fields, state_dir=Path(str(raw["state_dir"])))  # type: ignore[arg-type]


def _shown(value: Any) -> str:
    """Show a value on one line, cut where it is overlong."""
    text = str(value).encode("unicode_escape").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
