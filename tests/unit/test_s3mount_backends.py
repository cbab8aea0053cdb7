"""Which program mounts, and by which command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import helper, host
from ansible.module_utils.lab.s3mount.backends.asked import Asked, Backend, Owner, Version
from ansible.module_utils.lab.s3mount.backends.choose import BACKENDS, CHOICES, choose
from ansible.module_utils.lab.s3mount.bucket import Bucket
from ansible.module_utils.lab.s3mount.credentials import Access

S3FS: dict[str, Version] = {"s3fs": (1, 95)}
OLD_RCLONE: dict[str, Version] = {"rclone": (1, 60)}
RCLONE: dict[str, Version] = {"rclone": (1, 75)}
MOUNTPOINT: dict[str, Version] = {"mountpoint": (1, 18)}
KEY = Access("access_key", access_key="KEY", secret_key="sec/ret")
ROLE = Access("instance_role")
ASKED = Asked("/s3", Bucket("b-1", "eu-west-1"), ROLE, Owner(1000, 1000), read_only=True)
OWN = Bucket("b-1", "us-east-1", "http://127.0.0.1:8333/", path_style=True, prefix="x/y")


@pytest.mark.parametrize(
    ("read_only", "random_writes", "installed", "taken", "why"),
    [
        (True, True, S3FS | RCLONE, "rclone", "only reading is asked for, and rclone asks S3 le"),
        (True, False, S3FS | OLD_RCLONE, "rclone", "large files would come faster with s3fs"),
        (True, True, S3FS | MOUNTPOINT | RCLONE, "rclone", "rclone asks S3 least often"),
        (True, True, S3FS | MOUNTPOINT, "mountpoint", "rclone is not there"),
        (True, True, S3FS, "s3fs", "neither rclone nor mount-s3 is installed"),
        (True, True, {}, "s3fs", "neither rclone nor mount-s3 is installed"),
        (False, True, S3FS | RCLONE | MOUNTPOINT, "s3fs", "only s3fs changes files in place"),
        (False, True, MOUNTPOINT, "s3fs", "only s3fs changes files in place"),
        (False, False, S3FS | MOUNTPOINT, "s3fs", "its writing was measured"),
        (False, False, MOUNTPOINT, "mountpoint", "only new files are written and s3fs is not th"),
        (False, False, RCLONE, "s3fs", "it writes"),
    ],
)
def test_chooses_and_says_why(
    read_only: bool, random_writes: bool, installed: dict[str, Version], taken: str, why: str
) -> None:
    choice = choose("auto", read_only, random_writes, installed)
    assert choice.backend.name == taken
    assert why in choice.reason


@pytest.mark.parametrize("name", sorted(BACKENDS))
@pytest.mark.parametrize("installed", [{}, S3FS | RCLONE | MOUNTPOINT])
def test_takes_what_is_asked_for(name: str, installed: dict[str, Version]) -> None:
    assert choose(name, True, True, installed).backend.name == name
    assert name in CHOICES


@pytest.mark.parametrize(
    ("name", "random_writes", "says"),
    [
        ("rclone", True, "backend: rclone only reads here, .* set read_only: true, or use backend"),
        ("rclone", False, "backend: rclone only reads here"),
        ("mountpoint", True, "changes none in place: set random_writes: false if that is enough"),
        ("mountpoint", False, None),
        ("s3fs", True, None),
    ],
)
def test_refuses_what_a_backend_cannot_do(name: str, random_writes: bool, says: str | None) -> None:
    if says is None:
        assert choose(name, False, random_writes, {}).backend.name == name
        return
    with pytest.raises(LabError, match=says):
        choose(name, False, random_writes, {})


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("s3fs", "Amazon Simple Storage Service File System V1.95 with GnuTLS", (1, 95)),
        ("rclone", "rclone v1.60.1-DEV\n- os/version: debian 12.11 (64 bit)\n", (1, 60)),
        ("rclone", "rclone v1.75.2\n", (1, 75)),
        ("mountpoint", "mount-s3 1.21.0\n", (1, 21)),
    ],
)
def test_reads_a_version(name: str, text: str, version: Version) -> None:
    assert BACKENDS[name].version_of(text) == version


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rclone", "rclone v1.53.3", r"rclone 1\.53 is too old: 1\.60 is the oldest"),
        ("mountpoint", "mount-s3 1.9.1", r"mount-s3 1\.9 is too old: 1\.18 is the oldest"),
        ("rclone", "not found", "rclone does not say its version, but 'not found'"),
        ("mountpoint", "", "mount-s3 does not say its version, but ''"),
    ],
)
def test_refuses_a_version(name: str, text: str, says: str) -> None:
    with pytest.raises(LabError, match=says):
        BACKENDS[name].version_of(text)


def command_of(name: str, asked: Asked, version: Version) -> helper.Command:
    """Go the way that mount(8) goes: fstab line, helper, command."""
    entry = BACKENDS[name].entry(asked, version)
    program = BACKENDS[name].program
    options = helper.options_of(",".join(entry.options))
    return helper.COMMANDS[program](entry.source, entry.path, options)


def test_writes_rclones_whole_command_on_aws() -> None:
    assert command_of("rclone", replace(ASKED, profile="read"), (1, 75)).argv == (
        "rclone", "mount", ":s3:b-1", "/s3", "--devname=b-1", "--config=",
        "--daemon", "--daemon-wait=60s", "--syslog", "--read-only", "--allow-other",
        "--uid=1000", "--gid=1000", "--umask=0022", "--s3-env-auth", "--s3-provider=AWS",
        "--s3-region=eu-west-1", "--s3-force-path-style=false", "--no-modtime", "--no-checksum",
        "--s3-no-head-object", "--poll-interval=0", "--contimeout=10s", "--timeout=60s",
        "--low-level-retries=5", "--dir-cache-time=24h", "--attr-timeout=10m",
        "--vfs-read-chunk-size=16M", "--vfs-read-chunk-streams=16",
    )  # fmt: skip


def test_writes_mountpoints_whole_command_on_aws() -> None:
    command = command_of("mountpoint", replace(ASKED, profile="read"), (1, 18))
    assert command.argv == (
        "mount-s3", "b-1", "/s3", "--read-only", "--allow-other", "--dir-mode=0755",
        "--file-mode=0644", "--uid=1000", "--gid=1000", "--region=eu-west-1",
        "--metadata-ttl=indefinite",
    )  # fmt: skip
    assert command.environment == {"PATH": helper.PROGRAM_PATH}


@pytest.mark.parametrize(
    ("name", "changed", "has", "lacks"),
    [
        ("rclone", {"bucket": OWN}, ":s3:b-1/x/y --s3-endpoint=http://127.0.0.1:8333 "
         "--s3-provider=Other --s3-force-path-style=true --devname=b-1:/x/y", "AWS"),
        ("rclone", {"access": KEY}, "--s3-shared-credentials-file=/etc/lab/s3/s3.credentials "
         "--s3-profile=default --s3-env-auth", "sec/ret KEY"),
        ("rclone", {"access": Access("anonymous")}, ":s3:b-1", "--s3-env-auth"),
        ("rclone", {"cache_dir": "/c", "cache_bytes": 2048}, "--vfs-cache-mode=full "
         "--cache-dir=/c --vfs-cache-max-size=2048B --vfs-cache-max-age=8760h", "tmpdir"),
        ("rclone", {"version": (1, 60)}, "--vfs-read-chunk-size=64M", "--vfs-read-chunk-streams"),
        ("rclone", {}, "--dir-cache-time=1m", "--vfs-cache-mode"),
        ("rclone", {"allow_other": False, "umask": "0077"}, "--umask=0077", "--allow-other"),
        ("rclone", {"options": {"no-modtime": None, "transfers": "9"}}, "--transfers=9",
         "--no-modtime"),
        ("mountpoint", {"bucket": OWN}, "--endpoint-url=http://127.0.0.1:8333 --force-path-style "
         "--prefix=x/y/", "s3-endpoint"),
        ("mountpoint", {"access": KEY}, "--profile=default", "sec/ret KEY"),
        ("mountpoint", {"access": Access("anonymous")}, "--no-sign-request", "--profile"),
        ("mountpoint", {"cache_dir": "/c", "cache_bytes": 5 << 20},
         "--cache=/c --max-cache-size=5", "--cache-dir"),
        ("mountpoint", {"cache_dir": "/c", "profile": "write"}, "--metadata-ttl=minimal",
         "--cache=/c"),
        ("mountpoint", {"read_only": False}, "--allow-delete --allow-overwrite", "--read-only"),
        ("mountpoint", {"owner": Owner(0, 0), "umask": "0077"}, "--dir-mode=0700 --file-mode=0600",
         "--uid=0 --gid=0"),
    ],
)  # fmt: skip
def test_writes_each_parameter(name: str, changed: dict[str, Any], has: str, lacks: str) -> None:
    version = changed.pop("version", BACKENDS[name].newest)
    words = command_of(name, replace(ASKED, **changed), version).argv
    assert set(has.split()) <= set(words)
    assert not any(lack in word for word in words for lack in lacks.split())


@pytest.mark.parametrize("name", ["rclone", "mountpoint"])
def test_keeps_the_secret_in_one_file_that_only_root_reads(name: str) -> None:
    backend: Backend = BACKENDS[name]
    asked = replace(ASKED, access=KEY)
    files = backend.files(asked)
    keys = Path("/etc/lab/s3/s3.credentials")
    assert {path for path, file in files.items() if b"sec/ret" in file.content} == {keys}
    assert files[keys].mode == 0o600
    assert files[keys].content == (
        b"[default]\naws_access_key_id = KEY\naws_secret_access_key = sec/ret\n"
    )
    assert "sec/ret" not in backend.entry(asked, (1, 75)).line() + repr(asked) + repr(files)
    assert keys not in backend.files(ASKED)


def test_mountpoint_finds_its_keys_by_the_environment() -> None:
    command = command_of("mountpoint", replace(ASKED, access=KEY), (1, 18))
    assert command.environment["AWS_SHARED_CREDENTIALS_FILE"] == "/etc/lab/s3/s3.credentials"


def test_takes_the_key_of_a_password_file(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("b-1:ITS:own\nKEY:general\n")
    passwd.chmod(0o600)
    asked = replace(ASKED, access=Access("file", passwd_file=str(passwd)))
    files = BACKENDS["rclone"].files(asked)
    assert b"ITS" in files[Path("/etc/lab/s3/s3.credentials")].content
    assert str(passwd) not in BACKENDS["rclone"].entry(asked, (1, 75)).line()


def test_installs_the_helper_that_mount_looks_for() -> None:
    files = BACKENDS["rclone"].files(ASKED)
    script = files[Path("/usr/sbin/mount.fuse.rclone")]
    assert script.mode == 0o755
    assert b'exec /usr/bin/python3 -m s3mount.helper rclone "$@"\n' in script.content
    assert Path("/usr/local/lib/lab/s3mount/helper.py") in host.programs()


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("rclone", {"options": {"tranfers": "9"}},
         "rclone on this host does not know the option tranfers. Did you mean transfers?"),
        ("rclone", {"options": {"xyz": ""}}, "does not know the option xyz.$"),
        ("rclone", {"options": {"cache-dir": "/c"}},
         "The option cache-dir is set by the parameter cache_dir of s3_mount: use that."),
        ("rclone", {"options": {"s3-secret-access-key": "x"}}, "set by the parameter secret_key"),
        ("rclone", {"profile": "write"}, "rclone's only reads"),
        ("rclone", {"access": Access("instance_role", "r")}, "iam_role is for s3fs: rclone takes"),
        ("mountpoint", {"access": Access("instance_role", "r")}, "iam_role is for s3fs: mount-s3"),
        ("mountpoint", {"options": {"prefix": "x"}}, "set by the parameter prefix"),
    ],
)  # fmt: skip
def test_refuses(name: str, changed: dict[str, Any], says: str) -> None:
    asked = replace(ASKED, **changed)
    with pytest.raises(LabError, match=says):
        BACKENDS[name].check(asked, (1, 75), lambda: frozenset({"transfers", "vfs-read-wait"}))


def test_asks_for_the_options_only_where_there_are_any() -> None:
    def known() -> frozenset[str]:
        raise AssertionError("asked")

    BACKENDS["rclone"].check(ASKED, (1, 75), known)
    with pytest.raises(AssertionError, match="asked"):
        BACKENDS["rclone"].check(replace(ASKED, options={"transfers": "9"}), (1, 75), known)


def test_reads_the_options_that_a_program_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/rclone")
    said = {"help": "  --s3-region string  Region\n", "mount": "      --devname string  Set\n"}
    known = host.known_options(BACKENDS["rclone"], lambda argv, _: host.Ran(0, said[argv[1]]))
    assert known == {"s3-region", "devname"}
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert host.known_options(BACKENDS["rclone"]) == frozenset()


def test_an_old_rclone_is_said_to_be_slow_at_large_files() -> None:
    assert "over one connection" in BACKENDS["rclone"].warnings(ROLE, (1, 60))[0]
    assert BACKENDS["rclone"].warnings(ROLE, (1, 68)) == []


def test_the_helper_takes_the_words_of_mount(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, ...]] = []

    def execute(program: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        ran.append((program, *argv[1:4], *environment))

    monkeypatch.setattr("os.execvpe", execute)
    words = ["rclone", "b:/x", "/my s3", "-n", "-o", "rw,noauto,_netdev,x-lab-a=1,uid=5"]
    helper.main(words)
    assert ran == [("rclone", "mount", ":s3:b/x", "/my s3", "PATH")]
    assert helper.main([*words, "-f"]) == 0
    assert len(ran) == 1

    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("os.execvpe", missing)
    assert helper.main(words) == 1
    assert capsys.readouterr().err == "rclone is not installed on this host.\n"
