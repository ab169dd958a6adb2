#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Say what guests will see differently with another QEMU
description:
  - Starts the machine of each description, without its disks and NICs, on the old and the new QEMU, and compares.
  - Nothing changes, in no guest and no file.
version_added: "0.1.0"
options:
  sources:
    description: Descriptions, or folders of them.
    type: list
    elements: path
    required: true
  qemu:
    description: The new QEMU, a binary.
    type: path
  qemu_root:
    description: The folder that the new QEMU lives in, as / does.
    type: path
  against:
    description: The old QEMU, a binary; the installed one without it.
    type: path
  causes:
    description: Whether to look for the properties that are responsible, which takes longer.
    type: bool
    default: true
  migration:
    description: Whether to try the state of one in the other.
    type: bool
    default: true
  fail_on:
    description: Fail where something at least so bad is found.
    type: str
    choices: [identity, address, pci, property, firmware, text]
extends_documentation_fragment: mdtool.machine.mdtool
"""

EXAMPLES = r"""
- name: May this host get the new QEMU
  mdtool.machine.audit:
    sources: [/var/lib/mdtool/guests]
    qemu_root: /srv/new
    fail_on: property
"""

RETURN = r"""
guests:
  description: What C(mdtool audit --json) says of each description.
  returned: always
  type: dict
verdicts:
  description: Each verdict, with the descriptions that it is about; C(error) for one that could not be audited.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, Mdtool, flags, said


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            sources={"type": "list", "elements": "path", "required": True},
            qemu={"type": "path"},
            qemu_root={"type": "path"},
            against={"type": "path"},
            causes={"type": "bool", "default": True},
            migration={"type": "bool", "default": True},
            fail_on={"type": "str", "choices": ["identity", "address", "pci", "property", "firmware", "text"]},
        ),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    params = module.params
    words = ["audit", *flags(params, "qemu", "qemu_root", "against", "fail_on", "connect")]
    words += [] if params["causes"] else ["--no-causes"]
    words += [] if params["migration"] else ["--no-migration"]
    words += ["--output-format", "jsonl", "--", *params["sources"]]
    status, rows, messages = mdtool.run(*words, good=(0, 1, 2))
    rows = [rows] if isinstance(rows, dict) else rows or []
    verdicts, guests, errors = {}, {}, []
    for row in rows:
        if "guest" in row:
            guests[row["guest"]] = row["result"]
            verdicts.setdefault((row["result"] or {"verdict": "error"})["verdict"], []).append(row["guest"])
        errors += row.get("errors", [] if "guest" in row else [row])
    if status == 2:  # the others' verdicts are there all the same
        module.fail_json(msg=said(errors) or messages, errors=errors, guests=guests, verdicts=verdicts, stderr=messages)
    if status and params["fail_on"]:
        module.fail_json(msg="guests will see a difference", guests=guests, verdicts=verdicts, stderr=messages)
    module.exit_json(changed=False, guests=guests, verdicts=verdicts)


if __name__ == "__main__":
    main()
