"""``mdtool import COMMANDLINE``"""

from __future__ import annotations

import argparse
from pathlib import Path

from mdtool.cli.output import say, warn_all

EXAMPLE = """\
example:
  mdtool import start-web01.sh --xml web01.xml -o web01.yaml     a script that starts QEMU
  mdtool import pid:4711 --xml web01.xml -o web01.yaml           a QEMU that runs
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    source = "a script, pid:N, a copy of /proc/N/cmdline, - for stdin, or the command line itself in one argument"
    parser.add_argument("source", metavar="COMMANDLINE", help=source)
    parser.add_argument("--xml", metavar="GUEST.xml", required=True, help="write the guest XML there")
    parser.add_argument("-o", "--output", metavar="GUEST.yaml", required=True, help="write the description there")


def run(args: argparse.Namespace) -> int:
    from mdtool.errors import Report
    from mdtool.files import write_file
    from mdtool.importer import command_from_source, imported
    from mdtool.machine.writer import yaml_from_tree

    report = Report()
    made = imported(command_from_source(args.source, report), Path(args.xml).stem, report)
    warn_all(made.warnings)
    write_file(args.xml, made.xml)
    write_file(args.output, yaml_from_tree(made.tree))
    say(f"wrote {args.xml} and {args.output}")
    return 0
