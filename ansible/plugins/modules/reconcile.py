#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: reconcile
short_description: Bring a description up to date with its guest XML
description:
  - Every device that stays keeps its place; what is new gets one, as libvirt would give it.
  - Files alone change; P(mdtool.machine.apply#module) changes guests.
version_added: "0.1.0"
attributes:
  diff_mode:
    support: full
options:
  guest:
    description: The guest XML as it should be, a file on the host.
    type: path
    required: true
  description:
    description: The description of the guest, a file on the host.
    type: path
    required: true
  prefer:
    description: Which one wins where XML and description both changed.
    type: str
    choices: [xml, description]
  forget:
    description: Clear the addresses kept for removed devices.
    type: bool
    default: false
  prune:
    description: Remove ports and controllers that nothing uses any more.
    type: bool
    default: false
extends_documentation_fragment: mdtool.machine.mdtool
"""

EXAMPLES = r"""
- name: Bring the description up to date
  mdtool.machine.reconcile:
    guest: /srv/guests/web01.xml
    description: /srv/guests/web01.yaml
  register: reconciled
"""

RETURN = r"""
plan:
  description: What changes in the hardware, as C(mdtool reconcile --json) says it.
  returned: success
  type: dict
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import (
    ARGUMENTS,
    JSON,
    Mdtool,
    differences,
    flags,
    text_of,
)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            guest={"type": "path", "required": True},
            description={"type": "path", "required": True},
            prefer={"type": "str", "choices": ["xml", "description"]},
            forget={"type": "bool", "default": False},
            prune={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    guest, description = module.params["guest"], module.params["description"]
    name = os.path.basename(description)
    options = [*flags(module.params, "prefer", "forget", "prune"), *JSON]
    before = text_of(description)
    work = description
    if module.check_mode:
        work = os.path.join(tempfile.mkdtemp(dir=module.tmpdir), name)
        if os.path.exists(description):
            shutil.copy2(description, work)
    plan = mdtool.run("reconcile", guest, work, *options, good=(0,))[1]
    after = text_of(work)
    module.exit_json(
        changed=before != after,
        plan=plan,
        diff=differences(os.path.dirname(description), {name: before}, {name: after}),
    )


if __name__ == "__main__":
    main()
