# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)

from __future__ import annotations


class ModuleDocFragment:
    """What the documentation of all modules has; ``ARGUMENTS`` of module_utils are the options."""

    DOCUMENTATION = r"""
author: the mdtool maintainers (@mdtool)
options:
  executable:
    description: The command; a name is looked for on PATH, in /usr/local/bin and in /opt/mdtool/bin.
    type: path
    default: mdtool
  connect:
    description: The URI of libvirt; libvirt's own default without it.
    type: str
requirements:
  - mdtool on the host, which the role P(mdtool.machine.mdtool#role) installs
attributes:
  check_mode:
    description: Says what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changes in files.
    support: none
"""
