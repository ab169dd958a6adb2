#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Compare a guest that runs with its description
description:
  - Nothing in the guest changes.
  - Fails where a guest sees something else than what is described, unless O(fail_on_difference=false).
version_added: "0.1.0"
author: the mdtool maintainers (@mdtool)
attributes:
  check_mode:
    description: Says what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changes in files.
    support: none
options:
  description:
    description: The description of the guest, a file on the host.
    type: path
    required: true
  source:
    description: The guest, as libvirt:NAME, a QMP socket or pid:N; or guest XML to rehearse.
    type: str
    required: true
  strict:
    description: Whether what could not be compared counts as a difference.
    type: bool
    default: false
  fail_on_difference:
    description: Whether a difference fails the task.
    type: bool
    default: true
  executable:
    description: The command; a name is looked for on PATH, in /usr/local/bin and in /opt/mdtool/bin.
    type: path
    default: mdtool
  connect:
    description: The URI of libvirt; libvirt's own default without it.
    type: str
requirements:
  - mdtool on the host, which the role P(mdtool.machine.mdtool#role) installs
"""

EXAMPLES = r"""
- name: It is still what was described
  mdtool.machine.verify:
    description: /srv/guests/web01.yaml
    source: libvirt:web01
"""

RETURN = r"""
matches:
  description: Whether the guest sees what is described.
  returned: always
  type: bool
result:
  description: Differences and what was not compared, as C(mdtool verify --json) says it.
  returned: always
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, Mdtool, flags


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            description={"type": "path", "required": True},
            source={"type": "str", "required": True},
            strict={"type": "bool", "default": False},
            fail_on_difference={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    params = module.params
    description = os.path.expanduser(params["description"])
    options = [*flags(params, "strict", "connect"), "--json", "--output-format", "json"]
    status, found, messages = mdtool.run("verify", description, params["source"], *options)
    if status and params["fail_on_difference"]:
        module.fail_json(
            msg="{} is not as described".format(params["source"]), matches=False, result=found, stderr=messages
        )
    module.exit_json(changed=False, matches=not status, result=found)


if __name__ == "__main__":
    main()
