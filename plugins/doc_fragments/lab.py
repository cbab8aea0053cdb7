# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that the modules of the AWS side share."""

from __future__ import annotations


class ModuleDocFragment:
    """The lab as its user wants it, and the images that have a name."""

    DOCUMENTATION = r"""
options:
  lab:
    description:
      - The lab as its user wants it, one key for each C(lab_*) variable of
        C(inventory/group_vars/all/lab.yml) without the prefix, and C(state_dir), C(open_ports).
      - Checked by the module itself, so that an error names the variable, its rule and the
        command that mends it.
    type: dict
    required: true
  images:
    description: The images that have a name, each with C(x86_64), C(arm64) and C(user).
    type: dict
    required: true
"""
