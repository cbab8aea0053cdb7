"""Which s3fs knows which option."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount.options import (
    KNOWN,
    PROFILES,
    Version,
    check_options,
    parse_version,
    profile_options,
    render,
    user_options,
)

VERSIONS = [(1, 90), (1, 91), (1, 93), (1, 95), (1, 97), (1, 99)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "Amazon Simple Storage Service File System V1.90 (commit:unknown) with GnuTLS(gcrypt)",
            (1, 90),
        ),
        ("Amazon Simple Storage Service File System V1.95 with GnuTLS(gcrypt)", (1, 95)),
        ("Amazon Simple Storage Service File System V2.0 (commit:abc) with OpenSSL", (2, 0)),
    ],
)
def test_reads_the_version(text: str, version: Version) -> None:
    assert parse_version(text) == version


def test_refuses_an_s3fs_that_is_too_old_or_says_no_version() -> None:
    with pytest.raises(LabError, match=r"s3fs 1\.86 is too old: 1\.90 is the oldest that is supp"):
        parse_version("Amazon Simple Storage Service File System V1.86")
    with pytest.raises(LabError, match="does not say its version, but 'command not found'"):
        parse_version("command not found\n")


@pytest.mark.parametrize(
    ("name", "version", "error"),
    [
        ("multireq_max", (1, 90), None),
        ("multireq_max", (1, 97), None),
        ("nonempty", (1, 90), None),
        (
            "compat_dir",
            (1, 90),
            r"s3fs 1\.90 does not know the option compat_dir: it came with 1\.92\.",
        ),
        ("compat_dir", (1, 95), None),
        ("streamupload", (1, 90), "it came with 1.92"),
        ("free_space_ratio", (1, 93), "it came with 1.95"),
        ("big_writes", (1, 95), None),
        (
            "big_writes",
            (1, 97),
            r"s3fs 1\.97 no longer knows the option big_writes: leave it out\.",
        ),
        ("enable_negative_cache", (1, 95), "it came with 1.96"),
        (
            "multirec_max",
            (1, 95),
            r"does not know the option multirec_max\. Did you mean multireq_max\?",
        ),
        ("xyz", (1, 95), r"^s3fs 1\.95 does not know the option xyz\.$"),
        ("accessKeyId", (1, 95), "does not know the option accessKeyId"),
        ("uid", (1, 95), "The option uid is set by the parameter owner of s3_mount: use that."),
        ("use_cache", (1, 95), "set by the parameter cache_dir"),
    ],
)
def test_checks_a_name(name: str, version: Version, error: str | None) -> None:
    if error is None:
        check_options({name: ""}, version)
        return
    with pytest.raises(LabError, match=error):
        check_options({name: ""}, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_holds_only_what_its_version_knows(profile: str, version: Version) -> None:
    options = profile_options(profile, version)
    check_options(options, version)
    assert options["connect_timeout"] == "10"


def test_profiles_differ_by_version_where_s3fs_does() -> None:
    assert "notsup_compat_dir" in profile_options("read", (1, 90))
    assert "notsup_compat_dir" not in profile_options("read", (1, 95))
    # It sees folders that nobody made an object for without it, with a request less a new file.
    assert "compat_dir" not in profile_options("general", (1, 95))
    streamed = profile_options("write", (1, 95))
    assert "streamupload" in streamed and streamed["max_thread_count"] == "16"
    assert profile_options("general", (1, 95))["multireq_max"] == "200"
    newest = profile_options("general", (1, 97))
    assert newest["max_thread_count"] == "16"
    assert not {"multireq_max", "parallel_count"} & newest.keys()


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (None, {}),
        ("", {}),
        ("a=1,b, c=x=y ", {"a": "1", "b": "", "c": "x=y"}),
        (["a=1", "b", "a=2"], {"a": "2", "b": ""}),
        ({"a": 1, "b": True, "c": False, "d": "x"}, {"a": "1", "b": "", "c": None, "d": "x"}),
        ({"a": None}, {"a": ""}),
    ],
)
def test_reads_the_users_options(given: Any, options: dict[str, str | None]) -> None:
    assert user_options(given) == options


def test_refuses_options_that_would_break_the_line() -> None:
    with pytest.raises(LabError, match="a=1,dev holds a comma"):
        user_options({"a": "1,dev"})
    with pytest.raises(LabError, match="a mapping, a list or a string, not int"):
        user_options(5)


def test_renders_flags_values_and_what_was_taken_away() -> None:
    assert render({"a": "1", "b": "", "c": None}) == ("a=1", "b")


def test_no_secret_has_an_option() -> None:
    assert not {"accessKeyId", "secretAccessKey", "password"} & KNOWN.keys()
