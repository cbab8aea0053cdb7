"""parallel_unzip in ansible-playbook as it stands: what is seen of it, and that no more changes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins" / "action" / "parallel_unzip.py"

FAKE_MODULE = '''
    #!/usr/bin/python
    """Does nothing, and says how far it is, until it is told to go on."""
    import os, signal, time
    from ansible.module_utils.basic import AnsibleModule
    from ansible.module_utils.lab.unzip.progress import ProgressFile

    KINDS = {"src": "str", "dest": "path", "yard": "path", "how": "str", "progress_file": "path"}

    def work(yard, progress):
        progress.begin(3, 1000, 5000000)
        progress.stage("unpacking")
        done = 0
        end = time.monotonic() + 20
        while not os.path.exists(yard + "/go") and time.monotonic() < end:
            time.sleep(0.05)
            done += 1
            progress.update(done, done * 5000)

    def main():
        module = AnsibleModule({k: {"type": v} for k, v in KINDS.items()}, supports_check_mode=True)
        path, how, yard = (module.params[k] for k in ("progress_file", "how", "yard"))
        module.warn("a warning of the module")
        if not module.check_mode and how != "quick":
            with open(yard + "/seen", "a") as seen:
                seen.write("%s\\n" % path)
            with ProgressFile(path or yard + "/none/progress.json", 0.05) as progress:
                work(yard, progress)
                if how == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
        if how == "fail":
            module.fail_json(msg="a.zip is cut off", archive="a.zip")
        if how == "crash":
            raise RuntimeError("a bug")
        module.exit_json(
            changed=how != "quick", files=1000, bytes=5000000, seconds=2.5,
            diff={"before": "", "after": "a file\\n"},
        )

    main()
'''
QUICKER = f'''
    """The plugin as it is, but less patient."""
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("shown_unzip", "{PLUGIN}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    class ActionModule(module.ActionModule):
        first_look = look_every = line_every = 0.2
'''
PLAY = """
    - hosts: all
      gather_facts: false
      tasks:
        - name: Unpack
          parallel_unzip:
            src: a.zip
            dest: /nowhere
            yard: "{{ yard }}"
            how: "{{ how }}"
          no_log: "{{ silent | default(false) }}"
          async: "{{ background | default(0) }}"
          poll: 1
          register: result
          ignore_errors: true # what a failure looks like is what is tested
        - name: Keep the result
          ansible.builtin.copy:
            content: "{{ result | to_json }}"
            dest: "{{ yard }}/result.json"
          delegate_to: localhost
          when: keep | default(false) | bool
"""


@dataclass
class Yard:
    """A project of its own for ansible-playbook."""

    path: Path

    def start(
        self, *options: str, hosts: int = 1, plugin: str = "quick", terminal: bool = False,
        how: str = "well", env: dict[str, str] | None = None,
        connection: str = "ansible_connection=local",
    ) -> Run:  # fmt: skip
        for name in ("go", "seen", "result.json"):
            (self.path / name).unlink(missing_ok=True)
        (self.path / "ansible.cfg").write_text(self._settings(plugin))
        names = ["one", "two"][:hosts]
        line = f" {connection} ansible_python_interpreter={{{{ansible_playbook_python}}}}\n"
        (self.path / "hosts").write_text("".join(name + line for name in names))
        command = ["ansible-playbook", "play.yml", "-e", f"how={how}", "-e", f"yard={self.path}"]
        base = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        return Run(
            [*command, *options],
            self.path,
            base | {"ANSIBLE_NOCOLOR": "1", "HOME": str(self.path)} | (env or {}),
            terminal,
        )

    def go(self) -> None:
        (self.path / "go").touch()

    def progress_files(self) -> list[str]:
        return (self.path / "seen").read_text().splitlines()

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.path / "result.json").read_text())
        return result

    def _settings(self, plugin: str) -> str:
        folder = {"quick": "quicker", "real": PLUGIN.parent, "none": "none"}[plugin]
        return (
            "[defaults]\nlibrary = library\ninventory = hosts\nlocal_tmp = tmp\nremote_tmp = tmp\n"
            f"module_utils = {ROOT / 'module_utils'}\naction_plugins = {folder}\n"
        )


class Run:
    """ansible-playbook under way, its output taken as it comes."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str], terminal: bool) -> None:
        if terminal:
            self._out, inner = pty.openpty()
            fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        else:
            self._out, inner = os.pipe()
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=inner,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self._text = bytearray()
        self._reader = threading.Thread(target=self._take)
        self._reader.start()

    def _take(self) -> None:
        while True:
            try:
                block = os.read(self._out, 4096)
            except OSError:  # how a terminal says that nobody writes to it any more
                block = b""
            if not block:
                return
            self._text += block

    @property
    def text(self) -> str:
        return self._text.decode().replace("\r\n", "\n")

    def wait_for(self, pattern: str, times: int = 1) -> None:
        end = time.monotonic() + 60
        while len(re.findall(pattern, self.text)) < times:
            assert time.monotonic() < end, self.text
            assert self._reader.is_alive(), self.text
            time.sleep(0.02)

    def finish(self) -> str:
        """Wait for the end; gives the output."""
        try:
            self._process.wait(60)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._reader.join()
            os.close(self._out)
        return self.text


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    for name, text in (
        ("library/parallel_unzip.py", FAKE_MODULE),
        ("quicker/parallel_unzip.py", QUICKER),
        ("play.yml", PLAY),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    yard = Yard(tmp_path)
    yield yard
    yard.go()


def screen(text: str) -> str:
    """What is left to see on a terminal."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        lines.append(seen.rstrip())
    return "\n".join(lines)


FRAME = r"\r\[-+\] +\d+ %  +\d+ files +\d+ files/s +\d\.\d MB/s +\d+:\d+ left"


def test_a_terminal_shows_a_bar_and_then_the_result_as_ever(yard: Yard) -> None:
    run = yard.start("--diff", "-e", "keep=true", terminal=True)
    run.wait_for(FRAME, times=3)
    yard.go()
    text = run.finish()
    result = yard.result()
    (path,) = yard.progress_files()
    assert path.startswith("/tmp/.parallel_unzip-")
    assert not Path(path).parent.exists()

    plain = yard.start("--diff", "-e", "keep=true", terminal=True, plugin="none")
    yard.go()
    assert screen(text) == screen(plain.finish())
    assert result == yard.result()
    assert yard.progress_files() == ["None"]
    assert result["diff"]
    assert result["warnings"] == ["a warning of the module"]


def test_the_plugin_with_its_own_patience(yard: Yard) -> None:
    run = yard.start(terminal=True, plugin="real")
    run.wait_for(FRAME)
    yard.go()
    assert "changed: [one]" in screen(run.finish()).splitlines()


@pytest.mark.parametrize("pipelining", ["True", "False"])
def test_over_ssh(yard: Yard, pipelining: str) -> None:
    # All that Ansible does for ssh, but for the way to another host.
    ssh = yard.path / "ssh"
    ssh.write_text('#!/bin/bash\nexec /bin/sh -c "${@: -1}"\n')
    ssh.chmod(0o755)
    connection = (
        "ansible_connection=ssh ansible_host=127.0.0.1 ansible_ssh_transfer_method=piped "
        f"ansible_ssh_executable={ssh}"
    )
    env = {"ANSIBLE_PIPELINING": pipelining}
    run = yard.start(terminal=True, connection=connection, env=env)
    run.wait_for(FRAME, times=2)
    yard.go()
    assert "changed: [one]" in screen(run.finish()).splitlines()


@pytest.mark.parametrize("how", ["fail", "crash"])
def test_a_failure_is_the_same_and_leaves_the_line_clean(yard: Yard, how: str) -> None:
    run = yard.start("-e", "keep=true", terminal=True, how=how)
    run.wait_for(FRAME)
    yard.go()
    text = run.finish()
    result = yard.result()
    assert result["failed"] is True
    assert not Path(yard.progress_files()[0]).parent.exists()

    plain = yard.start("-e", "keep=true", terminal=True, how=how, plugin="none")
    yard.go()
    hide = re.compile(r"AnsiballZ_\S+|/tmp/ansible_\S+|ansible-tmp-\S+")
    assert hide.sub("", screen(text)) == hide.sub("", screen(plain.finish()))


def test_a_killed_module_leaves_nothing(yard: Yard) -> None:
    run = yard.start(how="die")
    run.wait_for("one: parallel_unzip: 0 %")
    yard.go()
    text = run.finish()
    assert "one: parallel_unzip: stopped\n" in text
    assert "Module result deserialization failed" in text
    assert not Path(yard.progress_files()[0]).parent.exists()


def test_a_log_gets_lines_while_the_module_runs(yard: Yard) -> None:
    run = yard.start()
    run.wait_for(
        r"one: parallel_unzip: \d+ % of 3 archives, \d+ of 1,000 files, .* left\n", times=2
    )
    yard.go()
    lines = run.finish().splitlines()
    assert "\r" not in "".join(lines)
    last = "one: parallel_unzip: done, 1,000 files, 5.0 MB in 0:02, 400 files/s, 2.0 MB/s"
    assert lines.index("changed: [one]") - lines.index(last) in {1, 2}  # the warning between them


def test_several_hosts_have_lines_each_on_a_terminal_too(yard: Yard) -> None:
    run = yard.start(hosts=2, terminal=True)
    for host in ("one", "two"):
        run.wait_for(rf"\n{host}: parallel_unzip: \d+ % of 3 archives")
    yard.go()
    text = run.finish()
    assert "\r" not in text
    for host in ("one", "two"):
        assert f"\n{host}: parallel_unzip: done, 1,000 files" in text
    assert len(set(yard.progress_files())) == 2


def test_hosts_one_after_the_other_have_a_bar_each(yard: Yard) -> None:
    run = yard.start("--forks", "1", hosts=2, terminal=True)
    run.wait_for(FRAME)
    yard.go()
    assert "parallel_unzip:" not in run.finish()


@pytest.mark.parametrize(
    ("options", "env", "how"),
    [
        pytest.param(["--check"], {}, "well", id="check"),
        pytest.param([], {}, "quick", id="second-run"),
        pytest.param(["-e", "silent=true"], {}, "well", id="no_log"),
        pytest.param(["-e", "background=30"], {}, "well", id="async"),
        pytest.param([], {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}, "well", id="json"),
    ],
)
def test_silence(yard: Yard, options: list[str], env: dict[str, str], how: str) -> None:
    run = yard.start(*options, how=how, env=env)
    seen = yard.path / "seen"
    if how == "well" and options != ["--check"]:
        end = time.monotonic() + 60
        while not seen.exists():
            assert time.monotonic() < end, run.text
            time.sleep(0.02)
        time.sleep(0.6)  # three looks
        yard.go()
        assert "parallel_unzip:" not in run.finish()
        assert yard.progress_files() == ["None"]
    else:
        assert "parallel_unzip:" not in run.finish()
    if env:
        assert json.loads(run.text[run.text.index("{") :])["plays"]


def test_the_real_module_with_the_plugin_and_without(yard: Yard) -> None:
    archive, dest = yard.path / "a.zip", yard.path / "out"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(50):
            file.writestr(f"{number}.txt", b"x" * number)
    play = f"""
        - hosts: all
          gather_facts: false
          tasks:
            - parallel_unzip:
                src: {archive}
                dest: {dest}
              register: result
            - ansible.builtin.copy:
                content: "{{{{ result | to_json }}}}"
                dest: "{yard.path}/result.json"
    """
    (yard.path / "play.yml").write_text(textwrap.dedent(play))
    (yard.path / "library" / "parallel_unzip.py").unlink()
    (yard.path / "library" / "parallel_unzip.py").symlink_to(ROOT / "library" / "parallel_unzip.py")

    results = []
    for plugin in ("real", "real", "none"):
        text = yard.start(plugin=plugin).finish()
        assert "parallel_unzip:" not in text
        results.append(yard.result())
    first, second, plain = results
    assert (first["changed"], first["files"]) == (True, 50)
    assert (second["changed"], second["unchanged"]) == (False, 50)
    assert second | {"seconds": 0} == plain | {"seconds": 0}
