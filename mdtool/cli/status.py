"""``mdtool status [DIR]``"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mdtool.cli.findings import Reported, write
from mdtool.cli.options import options
from mdtool.cli.output import coloured, say
from mdtool.cli.source import connect_argument
from mdtool.errors import InputError, MdtoolError
from mdtool.text import as_command

EXAMPLE = """\
example:
  mdtool status                                         the guests of this folder, a line each
  mdtool status guests/ --json

  in step                       XML, description, libvirt and the running machine agree
  XML edited, not reconciled    mdtool reconcile NAME.xml NAME.yaml, or mdtool edit NAME
  not defined in libvirt yet    mdtool apply NAME.xml NAME.yaml --source libvirt:NAME
  needs a power cycle           mdtool apply ... does live what can be done so, and all of it with --restart
  the running machine differs   something was plugged or changed beside mdtool: mdtool verify says what
  not adopted                   mdtool adopt NAME DIR
  gone from libvirt             its files are still here: git rm 'NAME.*', or mdtool adopt DIR where it was renamed

Exit status: 0 all are in step, 1 some are not, 2 an error.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="a folder of guests (this one)")
    parser.add_argument("--offline", action="store_true", help="do not ask libvirt: files alone")
    options(parser, "--json")
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.status import State, names_in, statuses
    from mdtool.qemu.virsh import Virsh

    folder, virsh = Path(args.folder), Virsh(args.connect)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", expected="a folder of guests", remedy="mdtool adopt DIR makes one")
    held = None
    if not args.offline:
        try:
            held = virsh.held()
        except MdtoolError as error:
            say(f"warning: libvirt is not looked at: {error.what}")
    found = statuses(folder, sorted({*names_in(folder), *(held or ())}), held, virsh)
    if not found:
        say(f"no guests in {folder}; {as_command('adopt', folder)} describes those of libvirt there")
    if args.json:
        print(json.dumps([one.data() for one in found], indent=1))
    elif args.output_format != "text":
        write(
            [
                Reported(
                    "error" if one.state is State.BROKEN else "warning",
                    " ".join(str(one).split()),
                    one.state.name.lower().replace("_", "-"),
                )
                for one in found
                if one.state is not State.IN_STEP
            ],
            args.output_format,
        )
    else:
        for one in found:
            print(coloured(str(one), "green" if one.state is State.IN_STEP else "yellow"))
    if any(one.state is State.BROKEN for one in found):
        return 2
    return 0 if all(one.state is State.IN_STEP for one in found) else 1
