"""The key is kept, and the certificate is made anew only where it must be."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

SOURCE = Path(__file__).resolve().parents[2] / "roles/jupyter/library/jupyter_certificate.py"
spec = importlib.util.spec_from_file_location("jupyter_certificate", SOURCE)
assert spec and spec.loader
module: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture(autouse=True)
def no_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test that is not root keep its own files."""
    monkeypatch.setattr(
        module.AnsibleModule, "set_owner_if_different", lambda *given, **_: given[3]
    )
    monkeypatch.setattr(
        module.AnsibleModule, "set_group_if_different", lambda *given, **_: given[3]
    )


def keep(folder: Path, check: bool = False, days: int = 820) -> dict[str, Any]:
    given = {"folder": str(folder), "names": ["lab", "localhost", "127.0.0.1"], "days": days}
    answers: list[dict[str, Any]] = []
    with (
        patch_module_args(given | {"_ansible_check_mode": check}),
        pytest.MonkeyPatch.context() as m,
    ):
        m.setattr(module.AnsibleModule, "exit_json", lambda _self, **said: answers.append(said))
        with pytest.raises(AssertionError, match="unreachable"):
            module.main()
    return answers[0]


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new/jupyter"


def test_four_times(folder: Path) -> None:
    checked = keep(folder, check=True)
    assert (checked["changed"], checked["made"]) == (True, ["folder", "key", "certificate"])
    assert checked["fingerprint"] == ""
    assert not folder.exists()
    made = keep(folder)
    assert made["made"] == ["folder", "key", "certificate"]
    again = keep(folder)
    assert (again["changed"], again["made"]) == (False, [])
    assert again["fingerprint"] == made["fingerprint"]
    assert keep(folder, check=True)["changed"] is False


def test_the_key_is_for_nobody_else(folder: Path) -> None:
    keep(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]}
    assert modes == {"jupyter": 0o700, "jupyter.key": 0o600, "jupyter.crt": 0o644}
    (folder / "jupyter.key").chmod(0o644)
    assert keep(folder)["changed"]
    assert (folder / "jupyter.key").stat().st_mode & 0o777 == 0o600


def test_the_certificate_is_what_openssl_reads(folder: Path) -> None:
    made = keep(folder)
    shown = openssl("x509", "-in", str(folder / "jupyter.crt"), "-noout", "-text", "-fingerprint",
                    "-sha256")  # fmt: skip
    assert f"sha256 Fingerprint={made['fingerprint']}" in shown
    assert "DNS:lab, DNS:localhost, IP Address:127.0.0.1" in shown
    assert "CA:FALSE" in shown
    assert "prime256v1" in shown


def lose(folder: Path) -> None:
    (folder / "jupyter.crt").unlink()


def tear(folder: Path) -> None:
    (folder / "jupyter.crt").write_text("-----BEGIN CERTIFICATE-----\nMIIB")


def swap(folder: Path) -> None:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
            str(folder / "jupyter.key"))  # fmt: skip


def age(folder: Path) -> None:
    lose(folder)
    keep(folder, days=29)


@pytest.mark.parametrize("spoil", [lose, tear, swap, age])
def test_a_certificate_that_does_not_do_is_made_anew_from_the_same_key(
    folder: Path, spoil: Any
) -> None:
    first = keep(folder)
    spoil(folder)
    key = (folder / "jupyter.key").read_bytes()
    mended = keep(folder)
    assert mended["made"] == ["certificate"]
    assert mended["fingerprint"] != first["fingerprint"]
    assert (folder / "jupyter.key").read_bytes() == key
    assert keep(folder)["changed"] is False


def test_a_torn_key_is_made_anew(folder: Path) -> None:
    keep(folder)
    (folder / "jupyter.key").write_text("")
    assert keep(folder)["made"] == ["key", "certificate"]


def test_why_openssl_failed_is_said(tmp_path: Path) -> None:
    given = SimpleNamespace(params={"folder": str(tmp_path), "days": 1, "names": ["lab"]})

    def fails(_arguments: Sequence[str]) -> tuple[int, str]:
        return 1, "some lines\nno space left\n"

    files = module.Files(given, fails)
    with pytest.raises(
        module.CertificateError, match=r"openssl made no jupyter.key: no space left"
    ):
        files.make("key")
    assert list(tmp_path.iterdir()) == []
