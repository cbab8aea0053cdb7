"""Parameters -> fstab entry and files."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import units, wanted
from ansible.module_utils.lab.s3mount.backends.asked import Owner
from ansible.module_utils.lab.s3mount.backends.s3fs import OLD_S3FS, S3fs
from ansible.module_utils.lab.s3mount.bucket import Bucket
from ansible.module_utils.lab.s3mount.credentials import Access
from ansible.module_utils.lab.s3mount.names import key_file

DEFAULTS: dict[str, Any] = {
    "bucket": "b-1", "path": "/s3", "state": "mounted", "prefix": None, "region": None,
    "endpoint": None, "path_style": None, "credentials": None, "iam_role": None,
    "access_key": None, "secret_key": None, "passwd_file": None, "umask": "0022",
    "allow_other": True, "read_only": False, "cache_dir": None, "cache_size": None,
    "profile": "general", "options": None, "timeout": 60,
}  # fmt: skip
KEY = Access("access_key", access_key="KEY", secret_key="sec/ret")
ROLE = Access("instance_role")


def line_of(access: Access = ROLE, version: tuple[int, int] = (1, 95), **params: Any) -> str:
    given = {**DEFAULTS, "region": "eu-west-1", **params}
    bucket = wanted.bucket_of(given, lambda: "none")
    asked = wanted.asked_of(given, bucket, access, Owner(1000, 1000))
    entry = wanted.build("mounted", asked, S3fs(), version, timeout=60).entry
    assert entry is not None
    return str(entry.line())


def test_writes_the_whole_line() -> None:
    assert line_of() == (
        "b-1 /s3 fuse.s3fs noauto,_netdev,nosuid,nodev,allow_other,uid=1000,gid=1000,umask=0022,"
        "fsname=b-1,subtype=s3fs,url=https://s3.eu-west-1.amazonaws.com,endpoint=eu-west-1,"
        "nonempty,iam_role=auto,connect_timeout=10,readwrite_timeout=60,retries=5,stat_cache_expire=60,"
        "multireq_max=200,parallel_count=16,multipart_size=16 0 0"
    )


@pytest.mark.parametrize(
    ("given", "has", "lacks"),
    [
        ({"version": (1, 97)}, "region=eu-west-1,", "endpoint="),
        ({"version": (1, 97)}, "subtype=s3fs,", "nonempty"),
        (
            {"access": Access("instance_role", "lab"), "version": (1, 90)},
            "iam_role=lab,",
            "role=auto",
        ),
        ({"access": KEY}, "passwd_file=/etc/lab/s3/s3.passwd,", "sec/ret"),
        ({"access": Access("file", passwd_file="/etc/k")}, "passwd_file=/etc/k,", "iam_role"),
        ({"access": Access("anonymous")}, "public_bucket=1,", "passwd_file"),
        (
            {"endpoint": "http://h:1/"},
            "url=http://h:1,endpoint=eu-west-1,use_path_request_style",
            "aws",
        ),
        (
            {"endpoint": "http://h:1", "path_style": False},
            "url=http://h:1",
            "use_path_request_style",
        ),
        ({"bucket": "a.b"}, "use_path_request_style,", "nothing"),
        ({"prefix": "/x/y/"}, "b-1:/x/y /s3 ", "fsname=b-1,"),
        ({"path": "/my s3"}, r"b-1 /my\040s3 fuse.s3fs", "my s3"),
        ({"read_only": True}, ",ro,", "rw"),
        ({"allow_other": False}, "nodev,uid=", "allow_other"),
        ({"umask": "027"}, "umask=0027,", "umask=0022"),
        (
            {"cache_dir": "/c", "cache_size": "2G"},
            "tmpdir=/c,ensure_diskfree=1024,use_cache=/c,x-lab-cache-bytes=2147483648,",
            "del_cache",
        ),
        ({"cache_dir": "/c", "profile": "write"}, "tmpdir=/c,", "use_cache"),
        ({"options": {"retries": 2, "multipart_size": False}}, "retries=2,", "multipart_size"),
        ({"options": "dbglevel=info"}, ",dbglevel=info 0 0", "nothing"),
    ],
)
def test_writes_each_parameter(given: dict[str, Any], has: str, lacks: str) -> None:
    line = line_of(**given)
    assert has in line
    assert lacks not in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"bucket": "UPPER"}, "'UPPER' is no bucket name: 3 to 63 of a-z"),
        ({"bucket": "ab"}, "'ab' is no bucket name"),
        ({"endpoint": "h:1"}, "endpoint 'h:1' is no URL: write http://host:port"),
        ({"endpoint": "https://u:p@h"}, "endpoint holds a user or password"),
        ({"prefix": "a,b"}, "prefix 'a,b' holds a blank, comma or colon"),
        ({"path": "s3"}, "path 's3' must be absolute"),
        ({"path": "/a/../b"}, "must be absolute and without"),
        ({"path": "/a,b"}, "cannot be a mount point"),
        ({"path": "//"}, "cannot be a mount point"),
        ({"umask": "999"}, "umask '999' is not octal: write three digits in quotes"),
        ({"umask": "18"}, "umask '18' is not octal"),
        ({"cache_size": "1G"}, "cache_size is the size of cache_dir: give that too"),
        ({"cache_dir": "c"}, "cache_dir 'c' must be absolute"),
        ({"cache_dir": "/c", "cache_size": "big"}, "cache_size 'big' is no size: write 500M, 20G"),
        ({"cache_dir": "/c", "cache_size": "0"}, "cache_size '0' is no size"),
        ({"options": ["url=x"]}, "set by the parameter endpoint"),
    ],
)
def test_refuses(given: dict[str, Any], says: str) -> None:
    with pytest.raises(LabError, match=says):
        line_of(**given)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("5K", 5120), ("20G", 20 << 30), ("2GiB", 2 << 30), ("1 tb", 1 << 40), ("7B", 7)],
)
def test_reads_a_size(text: str, size: int) -> None:
    assert wanted.parse_size(text) == size


def test_finds_the_region_only_where_it_is_needed() -> None:
    def find() -> str:
        raise AssertionError("asked")

    with pytest.raises(AssertionError, match="asked"):
        wanted.bucket_of(DEFAULTS, find)
    assert wanted.bucket_of({**DEFAULTS, "region": "r"}, find) == Bucket("b-1", "r")
    assert wanted.bucket_of({**DEFAULTS, "endpoint": "http://h"}, find).region == "us-east-1"


@pytest.mark.parametrize(
    ("given", "access"),
    [
        ({}, Access("instance_role")),
        ({"iam_role": "r"}, Access("instance_role", "r")),
        ({"access_key": "K", "secret_key": "s"}, Access("access_key", "", "K", "s")),
        ({"passwd_file": "/p"}, Access("file", passwd_file="/p")),
        ({"credentials": "environment"}, Access("environment", "", "ENV", "secret")),
        ({"credentials": "anonymous"}, Access("anonymous")),
    ],
)
def test_decides_on_the_credentials(given: dict[str, Any], access: Access) -> None:
    assert wanted.access_of({**DEFAULTS, **given}, lambda: ("ENV", "secret")) == access


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"credentials": "access_key"}, "needs both access_key and secret_key"),
        ({"credentials": "file"}, "needs passwd_file"),
        ({"access_key": "K", "secret_key": "a b"}, "holds a blank or a colon"),
    ],
)
def test_refuses_credentials(given: dict[str, Any], says: str) -> None:
    with pytest.raises(LabError, match=says):
        wanted.access_of({**DEFAULTS, **given}, lambda: ("", ""))


def test_keeps_the_secret_in_one_file_that_only_root_reads() -> None:
    bucket = Bucket("b-1", "r", "http://h")
    asked = wanted.asked_of({**DEFAULTS, "endpoint": "http://h"}, bucket, KEY, Owner(0, 0))
    aim = wanted.build("mounted", asked, S3fs(), (1, 95), timeout=60)
    secret = {path for path, file in aim.files.items() if b"sec/ret" in file.content}
    assert secret == {key_file("/s3")}
    assert (aim.files[key_file("/s3")].content, aim.files[key_file("/s3")].mode) == (
        b"KEY:sec/ret\n",
        0o600,
    )
    assert "sec/ret" not in repr(aim) + repr(KEY)


@pytest.mark.parametrize(
    ("access", "version", "named"),
    [
        (ROLE, (1, 90), True),
        (ROLE, (1, 91), False),
        (Access("instance_role", "r"), (1, 90), False),
        (KEY, (1, 90), False),
    ],
)
def test_old_s3fs_needs_the_roles_name(
    access: Access, version: tuple[int, int], named: bool
) -> None:
    assert S3fs().needs_role_name(access, version) is named


@pytest.mark.parametrize(
    ("access", "version", "required", "refused"),
    [
        (ROLE, (1, 90), True, True),
        (Access("instance_role", "r"), (1, 90), True, True),
        (ROLE, (1, 90), False, False),
        (ROLE, (1, 91), True, False),
        (KEY, (1, 90), True, False),
    ],
)
def test_old_s3fs_is_refused_where_only_imdsv2_answers(
    access: Access, version: tuple[int, int], required: bool, refused: bool
) -> None:
    said = ""
    try:
        S3fs().refuse_metadata(access, version, lambda: required)
    except LabError as error:
        said = str(error)
    assert said == (OLD_S3FS if refused else "")


def test_the_metadata_service_is_not_asked_where_nothing_hangs_on_it() -> None:
    def never() -> bool:
        raise AssertionError

    S3fs().refuse_metadata(KEY, (1, 90), never)
    S3fs().refuse_metadata(ROLE, (1, 95), never)


def test_writes_units_that_read_by_themselves() -> None:
    text = units.mount_unit_text("/data/my s3", "/data/cache", 30)
    assert 'ExecStart=/bin/mount "/data/my s3"\n' in text
    assert "RequiresMountsFor=/data/cache\n" in text
    assert "settle --deadline 30" in text
    assert r"After=network-online.target data-my\x20s3.mount" in text
    assert "ExecStop=/usr/bin/python3 -m lab.s3mount.keeper release --daemon ${MAINPID}" in text
    assert "OOMScoreAdjust=-900" in text
    assert 'ExecStopPost=-/bin/umount -q -c -l "/data/my s3"\n' in text
    assert r'/bin/rm -f "/run/lab-s3/data-my\\x20s3.mounted" "/run/lab-s3/data-my' in text
    assert "RequiresMountsFor" not in units.mount_unit_text("/s3", "", 30)
    assert "PartOf=lab-s3@s3.service" in units.watch_unit_text("/s3")
    assert "50%%" in units.watch_unit_text("/50%")
