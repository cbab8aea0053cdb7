#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold packages, or let them go, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nvidia_holds
short_description: Hold packages, or let them go, all in one call
version_added: "0.1.0"
description:
  - What M(ansible.builtin.dpkg_selections) does for one package, done for many.
  - A package that dpkg does not know is passed over.
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  diff_mode:
    support: full
    description: The selections before and after.
options:
  packages:
    description: The packages.
    type: list
    elements: str
    required: true
  held:
    description: Whether they are to be held.
    type: bool
    default: true
author: GPU lab
"""

EXAMPLES = r"""
- name: Hold the driver
  nvidia_holds:
    packages: [nvidia-kernel-open-dkms, nvidia-driver-cuda]
"""

RETURN = r"""
selected:
  description: The packages whose selection was changed.
  returned: always
  type: list
  elements: str
  sample: [nvidia-driver-cuda]
"""

from ansible.module_utils.basic import AnsibleModule


def selections(module: AnsibleModule, packages: list[str]) -> dict[str, str]:
    """Read what dpkg is told to do with each package that is there."""
    _, text, _ = module.run_command(["dpkg", "--get-selections", *packages])
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {name.partition(":")[0]: state for name, state in pairs if state in ("install", "hold")}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "held": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    wanted = "hold" if module.params["held"] else "install"
    there = selections(module, module.params["packages"]) if module.params["packages"] else {}
    wrong = sorted(name for name, state in there.items() if state != wanted)
    if wrong and not module.check_mode:
        lines = "".join(f"{name} {wanted}\n" for name in wrong)
        module.run_command(["dpkg", "--set-selections"], data=lines, check_rc=True)
    module.exit_json(
        changed=bool(wrong),
        selected=wrong,
        diff={
            "before": "".join(f"{name} {there[name]}\n" for name in wrong),
            "after": "".join(f"{name} {wanted}\n" for name in wrong),
        },
    )


if __name__ == "__main__":
    main()
