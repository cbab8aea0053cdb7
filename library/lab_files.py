#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: write many small files, and the folders they stand in, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_files
short_description: Write many small files, and the folders they stand in, in one call
description:
  - What M(ansible.builtin.file) and M(ansible.builtin.copy) do in a call for each path, done in
    one. A role has a dozen such paths and each call costs a third of a second, changed or not.
  - Contents come with the task, by the lookups P(ansible.builtin.template#lookup) and
    P(ansible.builtin.file#lookup). Each file is written beside its name and moved there.
options:
  folders:
    description: Folders, in the order in which they are made; missing parents are made 0755.
    type: list
    elements: dict
    default: []
    suboptions: &where
      path:
        description: An absolute path.
        type: path
        required: true
      mode:
        description: The mode, as an octal string.
        type: str
        required: true
      owner:
        description: The owner.
        type: str
        default: root
      group:
        description: The group.
        type: str
        default: root
      keep:
        description: One that is there is somebody's, and is left as it is.
        type: bool
        default: false
  files:
    description: Files.
    type: list
    elements: dict
    default: []
    suboptions:
      <<: *where
      content:
        description: What the file holds.
        type: str
        required: true
      validate:
        description: >-
          A command that must end well before the file is put in place; C(%s) in it is the new file.
        type: str
        default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: GPU lab
"""

EXAMPLES = r"""
- name: Install the check and its settings
  lab_files:
    folders:
      - {path: /etc/lab, mode: "0755"}
    files:
      - path: /usr/local/lib/lab/checks.d/60-tmux
        mode: "0755"
        content: "{{ lookup('ansible.builtin.file', '60-tmux', rstrip=false) }}"
      - path: /etc/lab/tmux.json
        mode: "0644"
        content: "{{ lookup('ansible.builtin.template', 'tmux.json.j2') }}"
"""

RETURN = r"""
written:
  description: The files whose content changed (in check mode, would change).
  returned: always
  type: list
  elements: str
  sample: [/etc/lab/tmux.json]
"""

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

WHERE: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "keep": {"type": "bool", "default": False},
}
ARGUMENTS: dict[str, Any] = {
    "folders": {"type": "list", "elements": "dict", "default": [], "options": WHERE},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            **WHERE,
            "content": {"type": "str", "required": True},
            "validate": {"type": "str", "default": ""},
        },
    },
}
Diff = dict[str, Any]


def refuse(module: AnsibleModule, path: Path, folder: bool) -> None:
    """End the module where something else than wanted is in the way; nothing is removed."""
    if not path.is_absolute():
        module.fail_json(msg=f"{path}: the path must be absolute; write it from / on")
    if path.is_symlink() or (path.exists() and path.is_dir() != folder):
        wanted = "a folder" if folder else "a file"
        module.fail_json(msg=f"{path} is not {wanted}; move it away, then run this again")


def set_attributes(module: AnsibleModule, wanted: dict[str, Any], diff: Diff) -> bool:
    """Put owner, group and mode right; True if they were (or, in check mode, are) wrong."""
    arguments = module.load_file_common_arguments(wanted, path=wanted["path"])
    return bool(module.set_fs_attributes_if_different(arguments, False, diff))


def place_folder(module: AnsibleModule, wanted: dict[str, Any]) -> list[Diff]:
    """Make one folder; the diff, empty if it was right."""
    path = Path(wanted["path"])
    diff: Diff = {"before": {"path": str(path)}, "after": {"path": str(path)}}
    if not path.is_dir():
        diff["before"]["state"], diff["after"]["state"] = "absent", "directory"
        if module.check_mode:
            return [diff]
        path.mkdir(parents=True)
        set_attributes(module, wanted, {})
        return [diff]
    return [diff] if set_attributes(module, wanted, diff) else []


def place_file(module: AnsibleModule, wanted: dict[str, Any]) -> tuple[list[Diff], bool]:
    """Write one file; the diffs, empty if it was right, and whether its content changed."""
    path, content = Path(wanted["path"]), wanted["content"].encode()
    old = path.read_bytes() if path.exists() else None
    diffs: list[Diff] = []
    if old != content:
        before = "" if old is None else old.decode(errors="replace")
        diffs.append(
            {
                "before": before,
                "after": wanted["content"],
                "before_header": "" if old is None else str(path),
                "after_header": str(path),
            }
        )
        if not module.check_mode:
            write(module, wanted, content, private=old is None)
    if path.exists():
        diff: Diff = {"before": {"path": str(path)}, "after": {"path": str(path)}}
        if set_attributes(module, wanted, diff) and old == content:
            diffs.append(diff)
    return diffs, old != content


def write(module: AnsibleModule, wanted: dict[str, Any], content: bytes, private: bool) -> None:
    """Write beside the final name and move there, so that no reader sees half a file."""
    handle, name = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    validate(module, wanted, name)
    if private:
        Path(name).chmod(0o600)  # until its own mode is set, a new file is nobody else's
    module.atomic_move(name, wanted["path"])


def validate(module: AnsibleModule, wanted: dict[str, Any], name: str) -> None:
    """End the module where the file's own program refuses what would be put in place."""
    command = [part.replace("%s", name) for part in shlex.split(wanted["validate"])]
    if not command:
        return
    status, out, error = module.run_command(command)
    if status:
        Path(name).unlink()
        said = " ".join(f"{out} {error}".split()).replace(name, wanted["path"])
        module.fail_json(msg=f"{wanted['path']} is left as it is: {command[0]} says: {said}")


def to_place(module: AnsibleModule, kind: str) -> list[dict[str, Any]]:
    """Pick what this run answers for: all but those to keep that are there."""
    return [
        wanted
        for wanted in module.params[kind]
        if not (wanted["keep"] and Path(wanted["path"]).exists())
    ]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    for folder in (True, False):
        for wanted in module.params["folders" if folder else "files"]:
            refuse(module, Path(wanted["path"]), folder)
    diffs: list[Diff] = []
    written: list[str] = []
    for wanted in to_place(module, "folders"):
        diffs += place_folder(module, wanted)
    for wanted in to_place(module, "files"):
        found, changed = place_file(module, wanted)
        diffs += found
        written += [wanted["path"]] if changed else []
    module.exit_json(changed=bool(diffs), written=written, diff=diffs)


if __name__ == "__main__":
    main()
