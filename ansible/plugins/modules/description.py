#!/usr/bin/python
# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations

DOCUMENTATION = r"""
module: description
short_description: Describe the guests of a libvirt host
description:
  - Writes the XML of each guest and the description of its machine into a folder on the host, as C(mdtool adopt) does.
  - Nothing in any guest changes. XML that was edited and not reconciled is left alone.
version_added: "0.1.0"
attributes:
  diff_mode:
    support: full
options:
  folder:
    description: Where NAME.xml and NAME.yaml go; made where it is not there.
    type: path
    required: true
  names:
    description: The guests; all of libvirt without it.
    type: list
    elements: str
    default: []
extends_documentation_fragment: mdtool.machine.mdtool
"""

EXAMPLES = r"""
- name: Describe all guests, and keep what they are
  mdtool.machine.description:
    folder: /var/lib/mdtool/guests
  register: described
"""

RETURN = r"""
files:
  description: The text of each file of the folder, by its name.
  returned: success
  type: dict
messages:
  description: What became of each guest.
  returned: success
  type: list
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mdtool.machine.plugins.module_utils.mdtool import ARGUMENTS, Mdtool, differences, flags, texts_of


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS, folder={"type": "path", "required": True}, names={"type": "list", "elements": "str", "default": []}
        ),
        supports_check_mode=True,
    )
    mdtool = Mdtool(module)
    folder = module.params["folder"]
    before = texts_of(folder)
    work = tempfile.mkdtemp(dir=module.tmpdir) if module.check_mode else folder
    if module.check_mode and os.path.isdir(folder):
        for name in before:
            shutil.copy2(os.path.join(folder, name), work)
    elif not os.path.isdir(work):
        os.makedirs(work)
    words = ["adopt", "--no-git"] + flags(module.params, "connect") + ["--"] + module.params["names"] + [work]
    messages = mdtool.run(*words, good=(0,))[2]
    after = texts_of(work)
    module.exit_json(
        changed=before != after,
        files=after,
        messages=messages.splitlines(),
        diff=differences(folder, before, after),
    )


if __name__ == "__main__":
    main()
