#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: Carry the plan of a guest out in the guest
description:
  - Defines the guest in libvirt, changes it while it runs, or powers it down and starts it with its new hardware.
  - Everything that can be known is checked before the guest is touched.
  - A guest that does not let a device go fails, with the names of what is left.
version_added: "0.1.0"
options:
  guest:
    description: The guest XML as it should be, a file on the host.
    type: path
    required: true
  description:
    description: The description of the guest, a file on the host.
    type: path
    required: true
  source:
    description: The guest, as libvirt:NAME or the QMP socket of a QEMU.
    type: str
    required: true
  restart:
    description: Power a running guest down, and start it with its new hardware.
    type: bool
    default: false
  force:
    description: With O(restart), end a guest that does not power down.
    type: bool
    default: false
  timeout:
    description: How many seconds a device has to go, or the guest to power down.
    type: float
  prefer:
    description: Which one wins where XML and description both changed.
    type: str
    choices: [xml, description]
extends_documentation_fragment: mdtool.machine.mdtool
"""

EXAMPLES = r"""
- name: Define what was merged
  mdtool.machine.apply:
    guest: /srv/guests/web01.xml
    description: /srv/guests/web01.yaml
    source: libvirt:web01
"""

RETURN = r"""
plan:
  description: The plan and what became of it, as C(mdtool apply --json) says it.
  returned: changed
  type: dict
pending:
  description: Whether the guest that runs has its old hardware until its next power cycle.
  returned: success
  type: bool
left:
  description: The steps that were not done, each with the reason.
  returned: failure
  type: list
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, JSON, Mdtool, flags, parsed, said


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            guest={"type": "path", "required": True},
            description={"type": "path", "required": True},
            source={"type": "str", "required": True},
            restart={"type": "bool", "default": False},
            force={"type": "bool", "default": False},
            timeout={"type": "float"},
            prefer={"type": "str", "choices": ["xml", "description"]},
        ),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    params = module.params
    words = [mdtool.program, "apply", params["guest"], params["description"]]
    words += [*flags(params, "source", "restart", "force", "timeout", "prefer", "connect"), *JSON]
    # Standard input is no terminal.  Without --yes it shows the plan, asks, and finds nobody: that is what a check is.  With nothing to do it does not ask.
    status, output, messages = module.run_command(words, data="no")
    errors = parsed(output)
    rules = [one.get("rule") for one in errors] if isinstance(errors, list) else []
    if status == 0:
        module.exit_json(changed=False, pending=False)
    if status != 2 or rules != ["not-agreed"]:
        module.fail_json(msg=said(errors) or messages.strip() or output, rc=status, errors=errors or [], stderr=messages)
    if module.check_mode:
        module.exit_json(changed=True, messages=messages.splitlines())
    status, output, messages = module.run_command([*words, "--yes"], data="no")
    found = parsed(output)
    if status not in (0, 1):
        module.fail_json(msg=said(found) or messages.strip() or output, rc=status, stderr=messages)
    live = found.get("live", []) if isinstance(found, dict) else []
    left = [one for one in live if not one["done"]]
    if left:
        what = "; ".join("{} {}: {}".format(one["action"], one["name"], one["why"]) for one in left)
        module.fail_json(msg="not done: " + what, changed=len(left) < len(live), left=left, plan=found)
    module.exit_json(changed=True, pending=status == 1, plan=found, messages=messages.splitlines())


if __name__ == "__main__":
    main()
