# Copyright (c) 2026 the mdtool maintainers
# MIT License (see LICENSE of mdtool)
"""What the modules share: mdtool is run as a command, since its Python is seldom the one that Ansible uses on a host."""

from __future__ import annotations

import json
import os

FOLDERS = ["/usr/local/bin", "/opt/mdtool/bin"]
#: options: results and errors as JSON on stdout
JSON = ["--json", "--output-format", "json"]
ARGUMENTS = {
    "executable": {"type": "path", "default": "mdtool"},
    "connect": {"type": "str"},
}


class Mdtool:
    """mdtool on this host; what it cannot do ends the module with its own errors."""

    def __init__(self, module):
        self.module = module
        name = module.params["executable"]
        self.program = name if os.path.isabs(name) else module.get_bin_path(name, required=True, opt_dirs=FOLDERS)

    def run(self, *words, **options):
        """(exit status, what stdout holds as JSON, stderr); ``good`` are the exit statuses that are no failure."""
        good = options.pop("good", (0, 1))
        status, output, messages = self.module.run_command([self.program, *words], data="no")
        if status not in good:
            found = parsed(output)
            errors = found if isinstance(found, list) else []
            self.module.fail_json(
                msg=said(errors) or messages.strip() or output.strip() or "mdtool ended with status %d" % status,
                errors=errors,
                rc=status,
                stderr=messages,
            )
        return status, parsed(output), messages

    def version(self):
        return self.module.run_command([self.program, "--version"], check_rc=True)[1].split()[-1]


def parsed(output):
    """A document of JSON, or several, one a line; None where it is none."""
    try:
        return json.loads(output)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in output.splitlines()]
    except ValueError:
        return None


def said(errors):
    """What errors say, in one line."""
    found = errors if isinstance(errors, list) else []
    return "; ".join(one.get("what", "") for one in found if isinstance(one, dict))


def flags(params, *names):
    """``--name`` for each that is set: alone where it is true, with its value where it has one."""
    words = []
    for name in names:
        value = params.get(name)
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, str(value)]
    return words


def text_of(path):
    """What a file holds; "" where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as stream:
        return stream.read().decode("utf-8", "replace")


def texts_of(folder):
    """File name -> text, for the guest XML and the descriptions of a folder."""
    if not os.path.isdir(folder):
        return {}
    names = sorted(name for name in os.listdir(folder) if name.endswith((".xml", ".yaml")) and not name.startswith("."))
    return {name: text_of(os.path.join(folder, name)) for name in names}


def differences(folder, before, after):
    """Ansible's diff of the files that changed."""
    return [
        {
            "before_header": os.path.join(folder, name),
            "after_header": os.path.join(folder, name),
            "before": before.get(name, ""),
            "after": after.get(name, ""),
        }
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name)
    ]
