"""The options of s3fs: which version knows which, and the sets that were measured.

s3fs refuses to mount over a single option that it does not know, and says so
only in its log. So every name is looked up here before anything is changed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LabError

Version = tuple[int, int]
OLDEST: Version = (1, 90)
NEWEST: Version = (1, 97)  # the newest that was tried; later ones are taken to be like it


@dataclass(frozen=True)
class _Span:
    since: Version = OLDEST
    before: Version | None = None

    def holds(self, version: Version) -> bool:
        return self.since <= version and (self.before is None or version < self.before)


def _names(text: str, since: Version = OLDEST, before: Version | None = None) -> dict[str, _Span]:
    return dict.fromkeys(text.split(), _Span(since, before))


KNOWN: dict[str, _Span] = {
    # s3fs itself
    **_names("""
        ahbe_conf check_cache_dir_exist cipher_suites complement_stat connect_timeout curldbg
        dbglevel default_acl del_cache ecs enable_content_md5 enable_noobj_cache endpoint
        ensure_diskfree host iam_role ibm_iam_auth ibm_iam_endpoint imdsv1only instance_name
        list_object_max_keys listobjectsv2 load_sse_c logfile max_dirty_data max_stat_cache_size
        mime mp_umask multipart_copy_size multipart_size multipart_threshold multireq_max
        no_check_certificate no_time_stamp_msg nocopyapi nodnscache nomixupload nomultipart
        norenameapi nosscache notsup_compat_dir noua noxmlns parallel_count passwd_file profile
        public_bucket readwrite_timeout requester_pays retries servicepath set_check_cache_sigusr1
        sigv2 sigv4 singlepart_copy_limit ssl_verify_hostname stat_cache_expire
        stat_cache_interval_expire storage_class tmpdir umask url use_cache use_path_request_style
        use_rrs use_session_token use_sse use_wtf8 use_xattr
    """),
    **_names("enable_unsigned_payload", since=(1, 91)),
    **_names(
        "bucket_size compat_dir credlib credlib_opts disable_noobj_cache max_thread_count proxy"
        " proxy_cred_file streamupload",
        since=(1, 92),
    ),
    **_names("update_parent_dir_stat", since=(1, 93)),
    **_names("free_space_ratio ipresolve ssl_client_cert", since=(1, 95)),
    **_names("enable_negative_cache region", since=(1, 96)),
    # FUSE and the kernel
    **_names("""
        allow_other allow_root async_read attr_timeout auto_cache default_permissions direct_io
        entry_timeout fsname gid kernel_cache max_background max_read max_readahead
        negative_timeout noforget remember subtype sync_read uid
    """),
    **_names("big_writes max_write nonempty", before=(1, 97)),  # 1.97 is built for FUSE 3
    **_names("ro rw suid nosuid dev nodev exec noexec atime noatime sync async dirsync"),
}

# Each of these is set by a parameter of the module, or by the module itself.
OWNED = {
    "allow_other": "allow_other",
    "endpoint": "region",
    "fsname": "bucket",
    "gid": "group",
    "host": "endpoint",
    "iam_role": "iam_role",
    "passwd_file": "passwd_file",
    "profile": "passwd_file",
    "public_bucket": "credentials",
    "region": "region",
    "ro": "read_only",
    "rw": "read_only",
    "subtype": "bucket",
    "tmpdir": "cache_dir",
    "uid": "owner",
    "umask": "umask",
    "url": "endpoint",
    "use_cache": "cache_dir",
    "use_path_request_style": "path_style",
}

# What was measured: the walk of a folder is one HEAD a key, side by side up to
# multireq_max; parallel_count times multipart_size is the read-ahead of one read.
_PATIENCE = {"connect_timeout": "10", "readwrite_timeout": "60", "retries": "5"}
_TRUST_CACHES = {"notsup_compat_dir": "", "enable_noobj_cache": ""}
_PROFILES: dict[str, dict[str, str]] = {
    # Others write to the bucket too: a key that they add shows within a minute.
    "general": {
        "stat_cache_expire": "60",
        "multireq_max": "200",
        "parallel_count": "16",
        "multipart_size": "16",
    },
    # Nobody changes the data while it is mounted.
    "read": {
        **_TRUST_CACHES,
        "kernel_cache": "",
        "entry_timeout": "600",
        "attr_timeout": "600",
        "max_stat_cache_size": "1000000",
        "stat_cache_expire": "86400",
        "multireq_max": "200",
        "parallel_count": "30",
        "multipart_size": "8",
    },
    # Nobody but this host writes.
    "write": {
        **_TRUST_CACHES,
        "multireq_max": "200",
        "parallel_count": "16",
        "multipart_size": "16",
    },
}
PROFILES = tuple(_PROFILES)
# From 1.96 one pool of threads does the work of both older options.
_ONE_POOL: Version = (1, 96)
_POOL = {"general": "16", "read": "50", "write": "16"}
STREAMED: Version = (1, 92)  # uploads while a file is written
# From 1.92 these are s3fs's own defaults.
_CACHES_TRUSTED: Version = (1, 92)


def parse_version(text: str) -> Version:
    """Read the version out of the first line of `s3fs --version`."""
    found = re.search(r"\bV(\d+)\.(\d+)", text)
    if not found:
        raise LabError(f"s3fs does not say its version, but {text.strip()[:80]!r}.")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        raise LabError(
            f"s3fs {version[0]}.{version[1]} is too old: {OLDEST[0]}.{OLDEST[1]} is the oldest "
            "that is supported, as in Debian 12."
        )
    return version


def profile_options(profile: str, version: Version) -> dict[str, str]:
    """Give the measured options of a profile by the names that this version knows."""
    chosen = {**_PATIENCE, **_PROFILES[profile]}
    if version >= _CACHES_TRUSTED:
        for name in _TRUST_CACHES:
            chosen.pop(name, None)
        if profile == "write":
            # It uploads by threads of its own, each a connection; 5 unless told.
            chosen.update(streamupload="", max_thread_count=_POOL[profile])
    if version >= _ONE_POOL:
        del chosen["multireq_max"], chosen["parallel_count"]
        chosen["max_thread_count"] = _POOL[profile]
    return chosen


def user_options(given: Any) -> dict[str, str | None]:
    """Read the parameter `options`: a mapping, a list or a string with commas; later wins.

    A value of None takes a preset option away; in a mapping that is `false`.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        given = given.split(",")
    if isinstance(given, Mapping):
        return {str(name): _value(name, value) for name, value in given.items()}
    if isinstance(given, Iterable):
        pairs = (str(item).strip().partition("=") for item in given)
        return {name: value for name, _, value in pairs if name}
    raise LabError(f"options is a mapping, a list or a string, not {type(given).__name__}.")


def _value(name: object, value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return "" if value or value is None else None
    text = str(value)
    if "," in text:
        raise LabError(f"The option {name}={text} holds a comma, which ends an option in fstab.")
    return text


def check_options(options: Mapping[str, str | None], version: Version) -> None:
    """Refuse what this version does not know and what a parameter is for."""
    for name in options:
        if name in OWNED:
            raise LabError(
                f"The option {name} is set by the parameter {OWNED[name]} of s3_mount: use that."
            )
        span = KNOWN.get(name)
        if span and span.holds(version):
            continue
        shown = f"{version[0]}.{version[1]}"
        if span and span.since > version:
            raise LabError(
                f"s3fs {shown} does not know the option {name}: it came with "
                f"{span.since[0]}.{span.since[1]}. Leave it out, or install a newer s3fs."
            )
        if span:
            raise LabError(f"s3fs {shown} no longer knows the option {name}: leave it out.")
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise LabError(f"s3fs {shown} does not know the option {name}.{hint}")


def render(options: Mapping[str, str | None]) -> tuple[str, ...]:
    """Write options as fstab holds them."""
    return tuple(
        f"{name}={value}" if value else name for name, value in options.items() if value is not None
    )
