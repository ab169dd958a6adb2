#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: Say which mdtool a host has, and how its guests stand
description:
  - Returns C(ansible_facts.mdtool) with the version, and for a folder the state of each guest, as C(mdtool status) says it.
version_added: "0.1.0"
options:
  folder:
    description: A folder of guests on the host.
    type: path
extends_documentation_fragment: mdtool.machine.mdtool
"""

EXAMPLES = r"""
- name: How the guests stand
  mdtool.machine.facts:
    folder: /var/lib/mdtool/guests
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to the host.
  returned: always
  type: dict
  contains:
    mdtool:
      description: C(version), and C(guests), the state of each guest by its name.
      type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, Mdtool, flags


def main():
    module = AnsibleModule(
        argument_spec=dict(ARGUMENTS, folder={"type": "path"}),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    facts = {"version": mdtool.version(), "guests": {}}
    folder = module.params["folder"]
    if folder and os.path.isdir(folder):
        words = ["status", "--json", *flags(module.params, "connect"), "--", folder]
        facts["guests"] = {one["name"]: one for one in mdtool.run(*words, good=(0, 1, 2))[1] or []}
    module.exit_json(changed=False, ansible_facts={"mdtool": facts})


if __name__ == "__main__":
    main()
