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
extends_documentation_fragment: mdtool.machine.mdtool
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, JSON, Mdtool, flags


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
    options = [*flags(params, "strict", "connect"), *JSON]
    status, found, messages = mdtool.run("verify", params["description"], params["source"], *options)
    if status and params["fail_on_difference"]:
        module.fail_json(
            msg="{} is not as described".format(params["source"]), matches=False, result=found, stderr=messages
        )
    module.exit_json(changed=False, matches=not status, result=found)


if __name__ == "__main__":
    main()
