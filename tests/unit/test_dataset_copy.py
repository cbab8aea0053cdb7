"""What rclone is told and what is read of its answers; the folder of a data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.lab.dataset import place
from ansible.module_utils.lab.dataset.choice import Survey
from ansible.module_utils.lab.dataset.copy import Ran, Runner, Source, count, read_log
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount.bucket import Bucket
from ansible.module_utils.lab.s3mount.names import escape_path

BUCKET = Bucket("b-1", "us-east-1", "http://127.0.0.1:8333", path_style=True, prefix="x/y")
ME = (os.getuid(), os.getgid())


def said(**message: str) -> str:
    return json.dumps({"level": "info", **message}) + "\n"


def answering(status: int = 0, out: str = "", log: str = "") -> tuple[Runner, list[list[str]]]:
    asked: list[list[str]] = []

    def run(argv: list[str], owner: tuple[int, int] | None) -> Ran:
        asked.append(argv)
        return Ran(status, out, *read_log(log.splitlines()))

    return run, asked


def test_counts_what_lies_there() -> None:
    run, asked = answering(out="5;a.jpg\n7;b/c;d.ZIP\n")
    assert Source(BUCKET, runner=run).survey() == Survey(2, 12, 1)
    assert asked == [[
        "rclone", "lsf", ":s3:b-1/x/y", "--recursive", "--files-only", "--format=sp", "--fast-list",
        "--config=", "--use-json-log", "--s3-env-auth", "--s3-provider=Other",
        "--s3-endpoint=http://127.0.0.1:8333", "--s3-region=us-east-1",
        "--s3-force-path-style=true",
    ]]  # fmt: skip


def test_reads_a_listing_with_odd_lines() -> None:
    assert count(["", "x;y", "3;a;b.zip", "4;c"]) == Survey(2, 7, 1)


@pytest.mark.parametrize(
    ("status", "log", "says"),
    [
        (0, "", "Nothing can be copied from s3://b-1/x/y: no file lies there."),
        (
            3,
            said(level="error", msg="error listing: AccessDenied: no\n\tstatus code"),
            "from s3://b-1/x/y: error listing: AccessDenied: no.",
        ),
        (1, "Error: unknown flag\n", "from s3://b-1/x/y: Error: unknown flag."),
    ],
)
def test_says_why_nothing_can_be_copied(status: int, log: str, says: str) -> None:
    run, _ = answering(status, log=log)
    with pytest.raises(LabError) as refused:
        Source(BUCKET, runner=run).survey()
    assert says in str(refused.value)


def test_copies_and_counts() -> None:
    log = said(msg="Copied (new)", object="a") + said(msg="Copied (replaced existing)", object="b")
    log += said(msg="There was nothing to transfer") + said(msg="Multi-thread Copied (new)")
    run, asked = answering(log=log)
    assert Source(BUCKET, runner=run).copy("/data/x", ME) == 3
    assert asked[0][:4] == ["rclone", "copy", ":s3:b-1/x/y", "/data/x"]
    assert "-v" not in Source(BUCKET).copy_command("/data/x")  # a journal is no list of files
    assert {"--use-server-modtime", "--transfers=32", "-v"} <= set(asked[0])
    assert "--dry-run" not in asked[0]


def test_only_looks_in_check_mode() -> None:
    log = said(level="notice", msg="Skipped copy as --dry-run is set (size 5)", object="a")
    run, asked = answering(log=log)
    assert Source(BUCKET, runner=run).copy("/data/x", None, dry=True) == 1
    assert asked[0][-1] == "--dry-run"


def test_says_what_stopped_a_copy() -> None:
    log = said(level="error", msg="corrupted on transfer: md5 hashes differ", object="a.jpg")
    run, _ = answering(1, log=log)
    with pytest.raises(
        LabError, match=r"not completed: a\.jpg corrupted on transfer.* Run this ag"
    ):
        Source(BUCKET, runner=run).copy("/data/x", ME)


def test_signs_nothing_for_a_public_bucket() -> None:
    assert "--s3-env-auth" not in Source(BUCKET, anonymous=True).copy_command("/data/x")


def test_no_error_is_no_error() -> None:
    assert read_log([said(msg="fine")]) == (0, "")


# The folder


def test_the_instance_store_comes_first(tmp_path: Path) -> None:
    found = place.disks(tmp_path / "data" / "x", tmp_path)
    assert [(one.name, one.folder, one.fast) for one in found] == [
        ("instance store", str(tmp_path / "datasets" / escape_path(f"{tmp_path}/data/x")), True),
        ("data volume", str(tmp_path / "data" / "x"), False),
    ]
    assert found[0].free > 0
    assert [one.name for one in place.disks(tmp_path / "x", None)] == ["data volume"]


def test_what_lies_on_the_data_volume_stays_there(tmp_path: Path) -> None:
    (tmp_path / "x" / "deep").mkdir(parents=True)
    (tmp_path / "x" / "deep" / "file").write_bytes(b"12345")
    found = place.disks(tmp_path / "x", tmp_path / "fast")
    assert [(one.name, one.held) for one in found] == [("data volume", 5)]


def test_makes_folder_and_link_and_knows_them_again(tmp_path: Path) -> None:
    dest = tmp_path / "data" / "x"
    folder = tmp_path / "fast" / "datasets" / escape_path(str(dest))
    assert place.link_needed(dest, str(folder))
    place.make(dest, str(folder), ME)
    assert dest.readlink() == folder
    assert folder.is_dir()
    assert not place.link_needed(dest, str(folder))
    (folder / "file").write_bytes(b"123")
    assert place.disks(dest, tmp_path / "fast")[0].held == 3
    # A stop empties the instance store; the link stays.
    (folder / "file").unlink()
    folder.rmdir()
    place.make(dest, str(folder), ME)
    assert (dest / ".").is_dir()


def test_goes_back_to_a_folder(tmp_path: Path) -> None:
    dest = tmp_path / "x"
    dest.symlink_to(tmp_path / "gone")
    assert place.link_needed(dest, str(dest))
    place.make(dest, str(dest), ME)
    assert dest.is_dir()
    assert not dest.is_symlink()


def test_never_hides_files_behind_a_link(tmp_path: Path) -> None:
    dest = tmp_path / "x"
    dest.mkdir()
    (dest / "mine").touch()
    with pytest.raises(LabError, match="holds files, so it cannot become a link to"):
        place.make(dest, str(tmp_path / "fast" / "x"), ME)
    assert (dest / "mine").exists()
