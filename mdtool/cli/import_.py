"""``mdtool import COMMANDLINE``"""

from __future__ import annotations

import argparse
import os
import zlib
from pathlib import Path

from mdtool.cli.options import options
from mdtool.cli.output import said_kept, say, warn_all, wrote
from mdtool.cli.source import access_of, qemu_arguments
from mdtool.files import is_standard

EXAMPLE = """\
example:
  mdtool import start-web01.sh --xml web01.xml -o web01.yaml     a script that starts QEMU
  mdtool import pid:4711 --xml web01.xml -o web01.yaml           a QEMU that runs
  mdtool import --run vm.sh --xml vm.xml -o vm.yaml              a script with loops, conditions, $(...)
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    source = "a script, REV:PATH, pid:N, a copy of /proc/N/cmdline, - for stdin, or the command line itself in one argument"
    parser.add_argument("source", metavar="COMMANDLINE", help=source)
    parser.add_argument("--xml", dest="write_xml", metavar="GUEST.xml", required=True, help="write the guest XML there")
    options(parser, "--output", required=True, help="write the description there")
    run = "run the script, in an empty folder and with programs in QEMU's place that write down their arguments"
    parser.add_argument("--run", action="store_true", dest="runs", help=run)
    vendor = "leave out what only a vendor's QEMU has (Proxmox's -id and +pve machine types), and say so"
    parser.add_argument("--upstream", action="store_true", help=vendor)
    qemu_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.commandline.recorded import command_by_running
    from mdtool.commandline.script import command_from_data
    from mdtool.commandline.vendor import without_vendor
    from mdtool.errors import Report
    from mdtool.files import write_over
    from mdtool.importer import command_from_source, imported, with_binary
    from mdtool.machine.writer import yaml_from_tree
    from mdtool.sources import data_from_source, is_revision

    report = Report()
    if args.runs:
        command = command_by_running(args.source, report, say)
    elif is_revision(args.source):
        command = command_from_data(data_from_source(args.source), args.source, report)
    else:
        command = command_from_source(args.source, report)
    command = without_vendor(command, report) if args.upstream else command
    command = with_binary(command, access_of(args).binary(command.words[0].text))
    made = imported(command, _name(args.write_xml), report)
    warn_all(made.warnings)
    said_kept(write_over(args.write_xml, made.xml), write_over(args.output, yaml_from_tree(made.tree)))
    wrote(args.write_xml, args.output)
    return 0


def _name(xml: str) -> str:
    """The name of a guest whose command line says none: two of them in different folders do not share it."""
    if is_standard(xml):
        return "guest"
    whole = os.path.realpath(xml)
    return f"{Path(xml).stem}-{zlib.crc32(os.fsencode(whole)):08x}"
